/**
 * TAP devices: network interfaces whose other side is a descriptor.
 *
 * Theory of operation: each descriptor is one queue of the interface; with
 * IFF_MULTI_QUEUE there may be several, over which the kernel spreads flows. A
 * frame is one read or one write. With IFF_VNET_HDR a `struct virtio_net_hdr`
 * goes before it, of the length that {@linkcode Tap.headerSize} says,
 * little-endian on this platform. Which frames the kernel may hand over
 * unfinished (without checksum, larger than the MTU) is set for the interface;
 * what is written to it may always be unfinished.
 *
 * Source: Linux `Documentation/networking/tuntap.rst`, `linux/if_tun.h`.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { fdName, OwnedFd, setCloexec, setNonblocking } from "./fd.ts";
import { cString, libc } from "./libc.ts";

const TUNSETIFF = 0x400454can;
const TUNSETOFFLOAD = 0x400454d0n;
const TUNGETIFF = 0x800454d2n;
const TUNSETVNETHDRSZ = 0x400454d8n;
const TUNSETQUEUE = 0x400454d9n;

const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

/** `struct ifreq`: a name of 16 bytes, then the flags. */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

const DEVICE = "/dev/net/tun";

/** What the kernel may leave undone in frames that it hands over: `TUN_F_*`. */
export const TapOffload = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  TSO_ECN: 0x08,
  UFO: 0x10,
} as const;

/** How to open a TAP. */
export interface TapOptions {
  /** The interface may have, or get, several queues. Default false. */
  readonly multiQueue?: boolean;
  /** Length of the header before each frame, 10 or 12. Default 12. */
  readonly headerSize?: 10 | 12;
}

function interfaceName(request: Uint8Array): string {
  const name = request.subarray(0, IFNAMSIZ);
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

function flagsOf(request: Uint8Array): number {
  return request[16] | request[17] << 8;
}

/** One queue of a TAP. Nothing here blocks. */
export class Tap implements Disposable {
  /** Name of the interface. */
  readonly name: string;
  /** Bytes before each frame: 10 or 12, or 0 where the TAP has no header. */
  readonly headerSize: number;
  readonly #owner: OwnedFd;

  private constructor(owner: OwnedFd, name: string, headerSize: number) {
    this.#owner = owner;
    this.name = name;
    this.headerSize = headerSize;
  }

  /**
   * Opens a queue of an interface, which is made if there is none of that name
   * and then goes with its last queue.
   *
   * C: `int ioctl(int fd, TUNSETIFF, struct ifreq *ifr);`
   *
   * @param name of the interface, at most 15 bytes; one with `%d` gets a number
   * @throws {SystemError} kind `ENOENT` where there is no /dev/net/tun, `EPERM`
   * without the right to it, `EBUSY` if another process has it, `EINVAL` if it
   * was made with other flags or is no TAP
   */
  static open(name: string, options: TapOptions = {}): Tap {
    const { multiQueue = false, headerSize = 12 } = options;
    const bytes = new TextEncoder().encode(name);
    if (bytes.length < 1 || bytes.length >= IFNAMSIZ || /[\0/\s]/.test(name)) {
      throw new SystemError(
        Errno.EINVAL,
        "TUNSETIFF",
        `Cannot use ${JSON.stringify(name)} as a network interface: ` +
          `a name of 1 to ${IFNAMSIZ - 1} bytes is needed`,
      );
    }
    const flags = O_RDWR | O_NONBLOCK | O_CLOEXEC;
    const opened = libc().open(cString(DEVICE), flags, 0);
    const owner = new OwnedFd(check(opened, "open", DEVICE));
    try {
      const request = new Uint8Array(IFREQ_BYTES);
      request.set(bytes);
      const wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
        (multiQueue ? IFF_MULTI_QUEUE : 0);
      request[16] = wanted & 0xff;
      request[17] = wanted >> 8;
      check(
        libc().ioctl(owner.fd, TUNSETIFF, request),
        "ioctl(TUNSETIFF)",
        name,
      );
      setHeaderSize(owner.fd, headerSize, name);
      return new Tap(owner, interfaceName(request), headerSize);
    } catch (error) {
      owner.close();
      throw error;
    }
  }

  /**
   * Takes over a queue that somebody else opened: the new object closes it. Makes
   * it close-on-exec and nonblocking.
   *
   * C: `int ioctl(int fd, TUNGETIFF, struct ifreq *ifr);`
   *
   * @throws {SystemError} kind `EINVAL` if `fd` is no TAP, or one that puts
   * other information before frames; it stays the caller's then
   */
  static adopt(fd: number, headerSize: 10 | 12 = 12): Tap {
    const request = new Uint8Array(IFREQ_BYTES);
    if (fdName(fd) !== DEVICE || libc().ioctl(fd, TUNGETIFF, request) < 0) {
      throw new SystemError(
        Errno.EINVAL,
        "adopt",
        `Cannot use fd ${fd}: it is no queue of a TAP`,
      );
    }
    const flags = flagsOf(request);
    const name = interfaceName(request);
    if ((flags & IFF_TAP) === 0 || (flags & IFF_NO_PI) === 0) {
      throw new SystemError(
        Errno.EINVAL,
        "adopt",
        `Cannot use fd ${fd}: "${name}" is no TAP without packet information`,
      );
    }
    const header = (flags & IFF_VNET_HDR) !== 0;
    if (header) setHeaderSize(fd, headerSize, name);
    setCloexec(fd, true);
    setNonblocking(fd, true);
    return new Tap(new OwnedFd(fd), name, header ? headerSize : 0);
  }

  /** The descriptor's number; it stays owned by this object. */
  get fd(): number {
    return this.#owner.fd;
  }

  /**
   * Says what the kernel may leave undone in frames that are read.
   *
   * C: `int ioctl(int fd, TUNSETOFFLOAD, unsigned long flags);`
   *
   * @param offloads a set of {@linkcode TapOffload}
   * @returns false where the kernel does not know one of them: nothing changed
   */
  setOffload(offloads: number): boolean {
    const result = libc().ioctl_value(
      this.fd,
      TUNSETOFFLOAD,
      BigInt(offloads),
    );
    if (result >= 0) return true;
    if (errno() === Errno.EINVAL) return false;
    throw systemError(errno(), "ioctl(TUNSETOFFLOAD)", this.name);
  }

  /**
   * Takes the queue out of those that the kernel spreads flows over, or puts it
   * back. A queue that is out neither reads nor writes.
   *
   * C: `int ioctl(int fd, TUNSETQUEUE, struct ifreq *ifr);`
   *
   * @throws {SystemError} kind `EINVAL` if the interface has no several queues,
   * or the queue is as asked for already
   */
  setAttached(attached: boolean): void {
    const request = new Uint8Array(IFREQ_BYTES);
    const flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    request[16] = flags & 0xff;
    request[17] = flags >> 8;
    const result = libc().ioctl(this.fd, TUNSETQUEUE, request);
    check(result, "ioctl(TUNSETQUEUE)", this.name);
  }

  /** Closes the queue; does nothing the second time. */
  close(): void {
    this.#owner.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** C: `int ioctl(int fd, TUNSETVNETHDRSZ, int *size);` */
function setHeaderSize(fd: number, size: number, name: string): void {
  const result = libc().ioctl(fd, TUNSETVNETHDRSZ, new Int32Array([size]));
  check(result, "ioctl(TUNSETVNETHDRSZ)", name);
}
