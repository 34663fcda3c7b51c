/**
 * Sockets that a process is started with.
 *
 * @module
 */

import { SystemError } from "../sys/errno.ts";
import { UnixListener, UnixSocket } from "../sys/unix_socket.ts";

/**
 * Takes over an inherited socket, whether it listens or is connected.
 *
 * @throws {SystemError} when it is no Unix stream socket
 */
export function adoptSocket(fd: number): UnixListener | UnixSocket {
  try {
    return UnixListener.adopt(fd);
  } catch (error) {
    if (error instanceof SystemError && error.kind === "EINVAL") {
      return UnixSocket.adopt(fd);
    }
    throw error;
  }
}
