/**
 * Sockets that a process is started with.
 *
 * @module
 */

import { Errno, SystemError } from "../sys/errno.ts";
import { UnixListener, UnixSocket } from "../sys/unix_socket.ts";

/**
 * Takes over an inherited socket, whether it listens or is connected.
 *
 * @throws {SystemError} when there is none, or when it is something else
 */
export function adoptSocket(fd: number): UnixListener | UnixSocket {
  try {
    return UnixListener.adopt(fd);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.errno === Errno.EINVAL) return adoptConnection(fd);
    if (error.errno !== Errno.EBADF) throw error;
    throw refusal(fd, `no descriptor ${fd} was inherited`, error);
  }
}

function adoptConnection(fd: number): UnixSocket {
  try {
    return UnixSocket.adopt(fd);
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== Errno.ENOTCONN) {
      throw error;
    }
    throw refusal(fd, "the socket neither listens nor is connected", error);
  }
}

function refusal(fd: number, reason: string, cause: SystemError): SystemError {
  return new SystemError(
    cause.errno,
    cause.syscall,
    `Cannot use fd ${fd}: ${reason}`,
  );
}
