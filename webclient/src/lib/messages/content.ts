/** What a message may contain: checked here so that the page can say so before the message is sent. */

import { DEFAULT_LIMITS } from "../wire";

/** In Unicode code points. */
export const MAX_LENGTH = DEFAULT_LIMITS.max_content_length;

/**
 * Anything but spaces, controls, formatting characters, fillers, and marks without a letter. A message of these alone
 * would show as nothing, and the gateway refuses it.
 */
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Mn}\p{Me}\p{Default_Ignorable_Code_Point}\u2800]/u;

export const isVisible = (text: string): boolean => VISIBLE.test(text);

/** How many code points a message is too long by. No string has more code points than its length. */
export const excessOf = (text: string): number =>
  text.length > MAX_LENGTH ? Math.max(0, [...text].length - MAX_LENGTH) : 0;
