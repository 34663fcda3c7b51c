/**
 * Frames as a capture file in pcapng format.
 *
 * Theory of operation: blocks are put together in a buffer and written at the end
 * of a turn, so that capturing costs a copy for each frame and a system call for
 * many. A file that reached its size becomes FILE.1, and replaces the one before.
 * Frames are captured as they are handed over: what was left undone, a checksum
 * say, is undone in the file.
 *
 * Source: the pcapng specification (draft-ietf-opsawg-pcapng).
 *
 * @module
 */

import { copyScattered } from "../../sys/scatter.ts";
import { Arena } from "../../sys/arena.ts";
import { OutputFile, renameFile } from "../../sys/small_file.ts";
import { NetBackendError } from "./error.ts";
import type { Frame } from "./frame.ts";
import { MAX_FRAME } from "./protocol.ts";

const SECTION_HEADER = 0x0a0d0d0a;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const LINKTYPE_ETHERNET = 1;
const OPTION_END = 0, EPB_FLAGS = 2;
/** Bytes of an enhanced packet block but for its packet. */
const PACKET_OVERHEAD = 44;
const BUFFER_SIZE = 2 ** 18;
const TWO_32 = 4294967296;

/** `epb_flags`: the guest receives it. */
export const INBOUND = 1;
/** `epb_flags`: the guest sent it. */
export const OUTBOUND = 2;

/** A section header and one Ethernet interface. */
export function captureHeader(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(28 + 20);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SECTION_HEADER, true);
  view.setUint32(4, 28, true);
  view.setUint32(8, BYTE_ORDER_MAGIC, true);
  view.setUint16(12, 1, true);
  // The length of the section is not known.
  view.setUint32(16, 0xffffffff, true);
  view.setUint32(20, 0xffffffff, true);
  view.setUint32(24, 28, true);
  view.setUint32(28, INTERFACE_DESCRIPTION, true);
  view.setUint32(32, 20, true);
  view.setUint16(36, LINKTYPE_ETHERNET, true);
  view.setUint32(44, 20, true);
  return bytes;
}

/** Writes frames to a file. */
export class Capture implements Disposable {
  /** Frames that were written. */
  frames = 0;
  /** Files that were begun. */
  files = 0;
  readonly #path: string;
  readonly #limit: number;
  readonly #arena = new Arena(BUFFER_SIZE);
  readonly #list = new Uint32Array(4);
  #file: OutputFile | null = null;
  #written = 0;
  #used = 0;

  /**
   * Begins a file; one of that name is overwritten.
   *
   * @param limit bytes after which another file is begun
   * @throws {NetBackendError} of kind `capture`
   */
  constructor(path: string, limit: number) {
    this.#path = path;
    this.#limit = limit;
    try {
      this.#begin();
    } catch (error) {
      this.#arena[Symbol.dispose]();
      const reason = error instanceof Error ? error.message : String(error);
      throw new NetBackendError(
        "capture",
        `Cannot write "${path}": ${reason}`,
        { cause: error },
      );
    }
  }

  /** Bytes in the buffer; {@linkcode undo} goes back to it. */
  get mark(): number {
    return this.#used;
  }

  /**
   * Adds a frame.
   *
   * @param direction {@linkcode INBOUND} or {@linkcode OUTBOUND}
   */
  add(frame: Frame, direction: number): void {
    const { view } = this.#arena;
    const { length } = frame;
    const padded = (length + 3) & ~3;
    const size = PACKET_OVERHEAD + padded;
    const at = this.#used;
    const now = (performance.timeOrigin + performance.now()) * 1000;
    view.setUint32(at, ENHANCED_PACKET, true);
    view.setUint32(at + 4, size, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, Math.floor(now / TWO_32), true);
    view.setUint32(at + 16, Math.floor(now % TWO_32), true);
    view.setUint32(at + 20, length, true);
    view.setUint32(at + 24, length, true);
    view.setUint32(at + 28 + padded - 4, 0, true);
    const address = this.#arena.address + at + 28;
    this.#list[0] = address;
    this.#list[1] = address / TWO_32;
    this.#list[2] = length;
    copyScattered(this.#list, 0, frame.words, 4, 0, length);
    const options = at + 28 + padded;
    view.setUint16(options, EPB_FLAGS, true);
    view.setUint16(options + 2, 4, true);
    view.setUint32(options + 4, direction, true);
    view.setUint32(options + 8, OPTION_END, true);
    view.setUint32(options + 12, size, true);
    this.#used = at + size;
    this.frames++;
  }

  /** Makes room for a frame. */
  reserve(): void {
    if (this.#used + PACKET_OVERHEAD + MAX_FRAME + 4 > BUFFER_SIZE) {
      this.flush();
    }
  }

  /** Forgets the frame that was added last, at a {@linkcode mark}. */
  undo(mark: number): void {
    this.#used = mark;
    this.frames--;
  }

  /**
   * Writes what is in the buffer.
   *
   * @throws what the file system says; nothing is in the buffer then
   */
  flush(): void {
    const used = this.#used;
    this.#used = 0;
    if (used === 0 || this.#file === null) return;
    this.#write(this.#arena.u8.subarray(0, used));
    if (this.#written < this.#limit) return;
    this.#file.close();
    this.#file = null;
    renameFile(this.#path, `${this.#path}.1`);
    this.#begin();
  }

  /** Closes the file; what is in the buffer is lost. */
  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = null;
    this.#arena[Symbol.dispose]();
  }

  #begin(): void {
    this.#file = new OutputFile(this.#path);
    this.files++;
    this.#written = 0;
    this.#write(captureHeader());
  }

  #write(bytes: Uint8Array<ArrayBuffer>): void {
    this.#file!.write(bytes);
    this.#written += bytes.length;
  }
}
