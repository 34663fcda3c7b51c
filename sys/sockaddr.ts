/**
 * Addresses of Unix sockets.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { libc } from "./libc.ts";

const AF_UNIX = 1;
/** `sun_path` has 108 bytes, of which the last one is the NUL. */
const PATH_MAX_BYTES = 107;
const SOCKADDR_UN_BYTES = 110;

/**
 * `struct sockaddr_un { sa_family_t sun_family; char sun_path[108]; }`
 *
 * @throws {SystemError} kind `ENAMETOOLONG` or `EINVAL`
 */
export function encodeAddress(path: string): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.includes(0)) {
    throw new SystemError(
      Errno.EINVAL,
      "sockaddr",
      `Cannot use socket path ${JSON.stringify(path)}: ` +
        "a path of 1 to 107 bytes without NUL is needed",
    );
  }
  if (name.length > PATH_MAX_BYTES) {
    throw new SystemError(
      Errno.ENAMETOOLONG,
      "sockaddr",
      `Cannot use socket path ${JSON.stringify(path)}: ` +
        `it has ${name.length} bytes, at most ${PATH_MAX_BYTES} are possible`,
    );
  }
  const address = new Uint8Array(SOCKADDR_UN_BYTES);
  address[0] = AF_UNIX;
  address.set(name, 2);
  return address;
}

/**
 * The path that a socket is bound to; empty if it has none.
 *
 * C: `int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen);`
 */
export function localPath(fd: number): string {
  const address = new Uint8Array(SOCKADDR_UN_BYTES);
  const length = new Uint32Array([address.length]);
  const result = libc().getsockname(fd, address, length);
  check(result, "getsockname", `fd ${fd}`);
  const name = address.subarray(2, Math.min(length[0], address.length));
  if (address[0] !== AF_UNIX || name.length === 0 || name[0] === 0) return "";
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

/**
 * Whether a socket has, or had, another end.
 *
 * C: `int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen);`
 */
export function isConnected(fd: number): boolean {
  const address = new Uint8Array(SOCKADDR_UN_BYTES);
  const length = new Uint32Array([address.length]);
  if (libc().getpeername(fd, address, length) === 0) return true;
  const number = errno();
  if (number === Errno.ENOTCONN) return false;
  throw systemError(number, "getpeername", `fd ${fd}`);
}

/**
 * An integer option of a socket, level SOL_SOCKET.
 *
 * C: `int getsockopt(int sockfd, int level, int optname, void *optval,
 * socklen_t *optlen);`
 */
export function socketOption(fd: number, option: number): number {
  const value = new Int32Array(1);
  const length = new Uint32Array([4]);
  check(
    libc().getsockopt(fd, 1, option, value, length),
    "getsockopt",
    `fd ${fd}`,
  );
  return value[0];
}
