/** Moves the keyboard focus. */

/** Without one, focusing a text box would bring up an on-screen keyboard over the page. */
export const hasKeyboard = (): boolean => matchMedia("(hover: hover)").matches;

/** Focus a room in the list, or else the button for a new one. */
export function focusList(room?: string): void {
  const item = room === undefined ? null : document.querySelector<HTMLElement>(`[data-room="${CSS.escape(room)}"]`);
  (item ?? document.querySelector<HTMLElement>("[data-new-room]"))?.focus();
}

/** Focus the message box of the open room. */
export function focusBox(): void {
  if (hasKeyboard()) document.querySelector<HTMLElement>("[data-message-box]")?.focus();
}
