/** Why a request to the gateway failed. The message of each is a sentence to show. */

import { TEMPORARY, type Failure } from "../wire";

/** The gateway refused it; the message is the gateway's own. */
export class Refused extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** The connection is up, but no reply came in time. */
export class ReplyTimeout extends Error {
  constructor() {
    super("The gateway did not reply in time.");
  }
}

/** There is no connection, or it was lost before the reply: the request may or may not have been carried out. */
export class ConnectionLost extends Error {
  constructor() {
    super("There is no connection to the gateway.");
  }
}

/** Whether a login that was refused like this may succeed later: also once a full gateway has room again. */
export const isTemporary = ({ code }: Failure): boolean => TEMPORARY.has(code) || code === "limit_reached";
