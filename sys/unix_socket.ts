/**
 * Unix stream sockets with file descriptors (SCM_RIGHTS).
 *
 * Nothing here blocks: `tryAccept`, `tryReceive` and `trySend` say when they
 * would. Wait with `reactor.ts` or `epoll.ts`.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { OwnedFd, setCloexec, setNonblocking } from "./fd.ts";
import { libc } from "./libc.ts";
import { CONTROL_MAX_FDS, Message, SCM_MAX_FD } from "./message.ts";
import { bindPrivately, type BoundName } from "./socket_name.ts";
import {
  encodeAddress,
  isConnected,
  localPath,
  socketOption,
} from "./sockaddr.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK;

const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;

const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** Options of {@linkcode UnixListener.listen}. */
export interface ListenOptions {
  /** Permission bits of the socket file. Default 0o600. */
  mode?: number;
  /** Group of the socket file, by number. Default: that of the process. */
  group?: number;
  /** Connections that wait to be accepted. Default 16. */
  backlog?: number;
}

/** Who is at the other end of a socket, as of its `connect`. */
export interface PeerCredentials {
  /** Process. */
  pid: number;
  /** Effective user. */
  uid: number;
  /** Effective group. */
  gid: number;
}

/** C: `int socket(int domain, int type, int protocol);` */
function newSocket(): OwnedFd {
  const fd = libc().socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0);
  return new OwnedFd(check(fd, "socket"));
}

function requireUnixStream(fd: number): void {
  if (
    socketOption(fd, SO_DOMAIN) === AF_UNIX &&
    socketOption(fd, SO_TYPE) === SOCK_STREAM
  ) return;
  throw new SystemError(
    Errno.EPROTOTYPE,
    "adopt",
    `Cannot use fd ${fd}: it is not a Unix stream socket`,
  );
}

/** A connected Unix stream socket. */
export class UnixSocket implements Disposable {
  readonly #owner: OwnedFd;
  #message: Message | undefined;

  /** Takes over a socket known to be a connected Unix stream socket. */
  constructor(owner: OwnedFd) {
    this.#owner = owner;
  }

  /**
   * Connects to a listening socket.
   *
   * C: `int connect(int sockfd, const struct sockaddr *addr,
   * socklen_t addrlen);`
   *
   * @throws {SystemError} kind `ENOENT`, `ECONNREFUSED` if nobody listens,
   * `EAGAIN` if too many wait to be accepted
   */
  static connect(path: string): UnixSocket {
    const address = encodeAddress(path);
    const owner = newSocket();
    try {
      for (;;) {
        const n = libc().connect(owner.fd, address, address.length);
        if (n < 0 && errno() === Errno.EINTR) continue;
        check(n, "connect", path);
        return new UnixSocket(owner);
      }
    } catch (error) {
      owner.close();
      throw error;
    }
  }

  /**
   * Two sockets that are connected with each other.
   *
   * C: `int socketpair(int domain, int type, int protocol, int sv[2]);`
   */
  static pair(): [UnixSocket, UnixSocket] {
    const fds = new Int32Array(2);
    const type = SOCK_STREAM | SOCK_FLAGS;
    check(libc().socketpair(AF_UNIX, type, 0, fds), "socketpair");
    return [
      new UnixSocket(new OwnedFd(fds[0])),
      new UnixSocket(new OwnedFd(fds[1])),
    ];
  }

  /**
   * Takes over a connected socket: the new object closes it. Makes it
   * close-on-exec.
   *
   * C: `int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen);`
   *
   * @throws {SystemError} kind `EPROTOTYPE` or `ENOTSOCK` if it is something
   * else, `EINVAL` if it listens, `ENOTCONN` if it does neither; it stays the
   * caller's then
   */
  static adopt(fd: number): UnixSocket {
    requireUnixStream(fd);
    if (socketOption(fd, SO_ACCEPTCONN) !== 0) {
      throw new SystemError(
        Errno.EINVAL,
        "adopt",
        `Cannot use fd ${fd} as a connection: the socket listens`,
      );
    }
    if (!isConnected(fd)) {
      throw new SystemError(
        Errno.ENOTCONN,
        "adopt",
        `Cannot use fd ${fd} as a connection: the socket is not connected`,
      );
    }
    setCloexec(fd, true);
    return new UnixSocket(new OwnedFd(fd));
  }

  /** The descriptor's number; it stays owned by this object. */
  get fd(): number {
    return this.#owner.fd;
  }

  /** Whether the socket was closed. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /**
   * Receives what there is, at most `into.length` bytes, and the descriptors
   * that came with it, which are close-on-exec. Data after those of one set of
   * descriptors comes with the next call.
   *
   * C: `ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags);`
   *
   * @param into not empty
   * @param fds the descriptors are added here; the caller owns them
   * @returns bytes; 0 at the end of the stream; -1 if it would block
   * @throws {SystemError} kind `EMSGSIZE` if more than `maxFds` descriptors
   * came, `EMFILE` if the process has no room for them: all are closed and the
   * data is lost, so close the socket
   */
  tryReceive(into: Uint8Array, fds: OwnedFd[], maxFds = 512): number {
    if (into.length === 0) {
      throw new SystemError(
        Errno.EINVAL,
        "recvmsg",
        "Cannot receive into 0 bytes: it would look like the end of the stream",
      );
    }
    const fd = this.fd;
    const limit = Math.min(maxFds, CONTROL_MAX_FDS);
    const message = this.#message ??= new Message();
    const flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    for (;;) {
      message.prepareReceive(into.length, limit);
      const n = libc().recvmsg(fd, message.pointer, flags);
      if (n < 0) {
        const e = errno();
        if (e === Errno.EAGAIN) return -1;
        if (e === Errno.EINTR) continue;
        throw systemError(e, "recvmsg", `fd ${fd}`);
      }
      message.takeFds(fds, limit);
      message.copyTo(into, n);
      return n;
    }
  }

  /**
   * Looks at what there is, at most `into.length` bytes, and leaves it there.
   *
   * C: as {@linkcode UnixSocket.tryReceive}, with `MSG_PEEK`.
   *
   * @param into not empty
   * @returns bytes; 0 where bytes alone are not what comes next: at the end of
   * the stream, or with descriptors; -1 if it would block
   */
  tryPeek(into: Uint8Array): number {
    const message = this.#message ??= new Message();
    const flags = MSG_DONTWAIT | MSG_PEEK;
    for (;;) {
      // Descriptors have no room, which the kernel says, and keeps them.
      message.prepareReceive(into.length, 0);
      const n = libc().recvmsg(this.fd, message.pointer, flags);
      if (n >= 0) {
        if (message.truncated) return 0;
        message.copyTo(into, n);
        return n;
      }
      const e = errno();
      if (e === Errno.EAGAIN) return -1;
      if (e !== Errno.EINTR) throw systemError(e, "recvmsg", `fd ${this.fd}`);
    }
  }

  /**
   * Sends as much as the socket takes. The descriptors go with the first byte:
   * if fewer bytes than all were sent, send the others without them.
   *
   * C: `ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags);`
   *
   * @param data not empty if there are descriptors
   * @param fds at most 253; they stay the caller's
   * @returns bytes; -1 if it would block
   * @throws {SystemError} kind `EPIPE` or `ECONNRESET` if the peer is gone
   */
  trySend(data: Uint8Array, fds: readonly number[] = []): number {
    if (fds.length > SCM_MAX_FD || (fds.length > 0 && data.length === 0)) {
      throw new SystemError(
        Errno.EINVAL,
        "sendmsg",
        `Cannot send ${fds.length} file descriptors with ${data.length} ` +
          `bytes: at most ${SCM_MAX_FD} with at least 1 byte are possible`,
      );
    }
    const fd = this.fd;
    const message = this.#message ??= new Message();
    message.prepareSend(data, fds);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    for (;;) {
      const n = libc().sendmsg(fd, message.pointer, flags);
      if (n >= 0) return n;
      const e = errno();
      if (e === Errno.EAGAIN) return -1;
      if (e !== Errno.EINTR) throw systemError(e, "sendmsg", `fd ${fd}`);
    }
  }

  /**
   * Who connected, or listened when we connected.
   *
   * C: `int getsockopt(int sockfd, SOL_SOCKET, SO_PEERCRED,
   * struct ucred *cred, socklen_t *len);`
   */
  peerCredentials(): PeerCredentials {
    const ucred = new Int32Array(3);
    const length = new Uint32Array([12]);
    check(
      libc().getsockopt(this.fd, 1, SO_PEERCRED, ucred, length),
      "getsockopt(SO_PEERCRED)",
    );
    return { pid: ucred[0], uid: ucred[1] >>> 0, gid: ucred[2] >>> 0 };
  }

  /** Closes the socket; does nothing the second time. */
  close(): void {
    this.#forget();
    this.#owner.close();
  }

  /**
   * Gives the descriptor back to somebody else who owns it: it stays open, and
   * this object cannot be used any more.
   */
  release(): number {
    this.#forget();
    return this.#owner.release();
  }

  #forget(): void {
    this.#message?.[Symbol.dispose]();
    this.#message = undefined;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A listening Unix stream socket. */
export class UnixListener implements Disposable {
  /** The path that it is bound to; empty if it has none. */
  readonly path: string;
  readonly #owner: OwnedFd;
  readonly #name: BoundName | undefined;

  private constructor(owner: OwnedFd, path: string, name?: BoundName) {
    this.#owner = owner;
    this.path = path;
    this.#name = name;
  }

  /**
   * Makes a socket file and listens on it. At no time does the file grant more
   * than `mode`. A socket file that nobody listens on any more is replaced.
   *
   * C: `int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen);`
   * `int listen(int sockfd, int backlog);`
   *
   * @throws {SystemError} kind `ENAMETOOLONG` above 107 bytes, `EADDRINUSE` if
   * somebody listens there, `ENOTSOCK` if the name is that of something else
   */
  static listen(path: string, options: ListenOptions = {}): UnixListener {
    const { mode = 0o600, group, backlog = 16 } = options;
    const owner = newSocket();
    let name: BoundName | undefined;
    try {
      name = bindPrivately(owner.fd, path, mode, group);
      check(libc().listen(owner.fd, backlog), "listen", path);
      name.unlock();
      return new UnixListener(owner, path, name);
    } catch (error) {
      name?.remove();
      owner.close();
      throw error;
    }
  }

  /**
   * Takes over a socket that listens already: the new object closes it, but
   * leaves its file alone. Makes it close-on-exec and nonblocking.
   *
   * @throws {SystemError} kind `EPROTOTYPE`, `ENOTSOCK` or `EINVAL` if it is
   * something else; it stays the caller's then
   */
  static adopt(fd: number): UnixListener {
    requireUnixStream(fd);
    if (socketOption(fd, SO_ACCEPTCONN) === 0) {
      throw new SystemError(
        Errno.EINVAL,
        "adopt",
        `Cannot accept on fd ${fd}: the socket does not listen`,
      );
    }
    setCloexec(fd, true);
    setNonblocking(fd, true);
    return new UnixListener(new OwnedFd(fd), localPath(fd));
  }

  /** The descriptor's number; it stays owned by this object. */
  get fd(): number {
    return this.#owner.fd;
  }

  /** Whether the listener was closed. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /**
   * Accepts a connection if one waits.
   *
   * C: `int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen,
   * int flags);`
   *
   * @throws {SystemError} kind `EMFILE` if the process has no room for it
   */
  tryAccept(): UnixSocket | null {
    for (;;) {
      const fd = libc().accept4(this.fd, null, null, SOCK_FLAGS);
      if (fd >= 0) return new UnixSocket(new OwnedFd(fd));
      const e = errno();
      if (e === Errno.EAGAIN) return null;
      if (e !== Errno.EINTR && e !== Errno.ECONNABORTED) {
        throw systemError(e, "accept4", this.path);
      }
    }
  }

  /** Stops to listen, and removes the socket file if it is still its own. */
  close(): void {
    if (this.#owner.closed) return;
    this.#name?.remove();
    this.#owner.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
