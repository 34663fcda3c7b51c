/**
 * One message of a stream socket with descriptors: a msghdr, its iovec, its
 * control data and a buffer, all at fixed addresses.
 *
 * Source: `recvmsg(2)`, `cmsg(3)`, `unix(7)`.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { Errno, SystemError } from "./errno.ts";
import { closeFd, OwnedFd } from "./fd.ts";
import { pointerTo } from "./libc.ts";

/** The most descriptors of one message (SCM_MAX_FD). */
export const SCM_MAX_FD = 253;

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
/** `struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }` */
const CMSG_HEADER = 16;
const MSG_CTRUNC = 0x08;

const HEADER_BYTES = 56;
const CONTROL_BYTES = 4096;
const DATA_BYTES = 32768;

/** The most descriptors that the control data has room for. */
export const CONTROL_MAX_FDS: number = (CONTROL_BYTES - CMSG_HEADER) / 4;

/** A reusable message. */
export class Message implements Disposable {
  /** `struct msghdr *` for `sendmsg` and `recvmsg`. */
  readonly pointer: Deno.PointerObject;
  readonly #arena = new Arena(256 + CONTROL_BYTES + DATA_BYTES);
  readonly #view: DataView<ArrayBuffer>;
  readonly #header: number;
  readonly #iovec: number;
  readonly #control: { address: number; offset: number };
  readonly #data: Uint8Array<ArrayBuffer>;

  /** Maps memory for one message of at most 32 KiB. */
  constructor() {
    const arena = this.#arena;
    this.#view = arena.view;
    const header = arena.alloc(HEADER_BYTES);
    const iovec = arena.alloc(16);
    this.#control = arena.alloc(CONTROL_BYTES);
    const data = arena.alloc(DATA_BYTES);
    this.#header = header.offset;
    this.#iovec = iovec.offset;
    this.#data = arena.u8.subarray(data.offset, data.offset + DATA_BYTES);
    this.pointer = pointerTo(header.address);
    // msg_name, msg_namelen: none. msg_iov at 16, msg_iovlen at 24.
    this.#view.setBigUint64(header.offset + 16, BigInt(iovec.address), true);
    this.#view.setBigUint64(header.offset + 24, 1n, true);
    this.#view.setBigUint64(iovec.offset, BigInt(data.address), true);
  }

  #prepare(dataBytes: number, controlBytes: number): void {
    const control = controlBytes === 0 ? 0 : this.#control.address;
    this.#view.setBigUint64(this.#iovec + 8, BigInt(dataBytes), true);
    this.#view.setBigUint64(this.#header + 32, BigInt(control), true);
    this.#view.setBigUint64(this.#header + 40, BigInt(controlBytes), true);
    this.#view.setInt32(this.#header + 48, 0, true);
  }

  /** Makes the message ready to receive. */
  prepareReceive(maxBytes: number, maxFds: number): void {
    // Exactly the length of `maxFds` descriptors, without padding: otherwise
    // the kernel would deliver one more than asked for.
    const controlBytes = maxFds === 0 ? 0 : CMSG_HEADER + 4 * maxFds;
    this.#prepare(Math.min(maxBytes, DATA_BYTES), controlBytes);
  }

  /**
   * Fills the message with data, as much as fits, and with descriptors.
   *
   * @returns bytes of `data` in the message
   */
  prepareSend(data: Uint8Array, fds: readonly number[]): number {
    const bytes = Math.min(data.length, DATA_BYTES);
    this.#data.set(bytes === data.length ? data : data.subarray(0, bytes));
    if (fds.length === 0) {
      this.#prepare(bytes, 0);
      return bytes;
    }
    const length = CMSG_HEADER + 4 * fds.length;
    const at = this.#control.offset;
    this.#view.setBigUint64(at, BigInt(length), true);
    this.#view.setInt32(at + 8, SOL_SOCKET, true);
    this.#view.setInt32(at + 12, SCM_RIGHTS, true);
    fds.forEach((fd, i) =>
      this.#view.setInt32(at + CMSG_HEADER + 4 * i, fd, true)
    );
    this.#prepare(bytes, Math.ceil(length / 8) * 8);
    return bytes;
  }

  /** Whether descriptors came that there was no room for. */
  get truncated(): boolean {
    return (this.#view.getInt32(this.#header + 48, true) & MSG_CTRUNC) !== 0;
  }

  /** Copies the first `bytes` bytes of received data out. */
  copyTo(into: Uint8Array, bytes: number): void {
    into.set(this.#data.subarray(0, bytes));
  }

  /**
   * Takes the descriptors out of a message that was received, and adds them to
   * `into`.
   *
   * @throws {SystemError} if some were cut off; those that did arrive are
   * closed. Kind `EMSGSIZE`: more than `maxFds`; kind `EMFILE`: the process
   * has no room for more
   */
  takeFds(into: OwnedFd[], maxFds: number): void {
    const numbers = this.#rights();
    if (!this.truncated) {
      for (const fd of numbers) into.push(new OwnedFd(fd));
      return;
    }
    for (const fd of numbers) closeFd(fd);
    if (numbers.length >= maxFds) {
      throw new SystemError(
        Errno.EMSGSIZE,
        "recvmsg",
        `Cannot receive a message with more than ${maxFds} file descriptors`,
      );
    }
    throw new SystemError(
      Errno.EMFILE,
      "recvmsg",
      "Cannot receive all file descriptors of a message: " +
        "the limit on open descriptors is reached",
    );
  }

  #rights(): number[] {
    const numbers: number[] = [];
    let length = Number(this.#view.getBigUint64(this.#header + 40, true));
    let at = this.#control.offset;
    while (length >= CMSG_HEADER) {
      const size = Math.min(
        Number(this.#view.getBigUint64(at, true)),
        length,
      );
      if (size < CMSG_HEADER) break;
      const level = this.#view.getInt32(at + 8, true);
      const type = this.#view.getInt32(at + 12, true);
      if (level === SOL_SOCKET && type === SCM_RIGHTS) {
        for (let i = CMSG_HEADER; i + 4 <= size; i += 4) {
          numbers.push(this.#view.getInt32(at + i, true));
        }
      }
      const step = Math.ceil(size / 8) * 8;
      at += step;
      length -= step;
    }
    return numbers;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#arena[Symbol.dispose]();
  }
}
