/**
 * A Worker that listens on the path it is told, or closes what it
 * listens on.
 *
 * @module
 */

import { SystemError } from "../errno.ts";
import { UnixListener } from "../unix_socket.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<string>) => void) | null;
  postMessage(message: unknown): void;
};

let listener: UnixListener | undefined;

scope.onmessage = (event) => {
  if (event.data === "close") {
    listener?.close();
    listener = undefined;
    scope.postMessage("closed");
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
