/**
 * A Worker that listens on a path when told to, and closes when told again.
 *
 * @module
 */

import { SystemError } from "../errno.ts";
import { UnixListener } from "../unix_socket.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<string>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

let listener: UnixListener | undefined;

scope.onmessage = (event) => {
  if (event.data === "") {
    listener?.close();
    scope.close();
    return;
  }
  try {
    listener = UnixListener.listen(event.data);
    scope.postMessage("listening");
  } catch (error) {
    scope.postMessage(error instanceof SystemError ? error.kind : `${error}`);
  }
};
scope.postMessage("ready");
