/**
 * Frames on a stream socket, each behind its length in 32 big-endian bits: what
 * QEMU's stream netdev and passt speak.
 *
 * Theory of operation: what arrives is read into a buffer, and frames are used
 * where they lie in it. What is sent goes out in one call; the rest of a frame
 * that the socket did not take whole is kept, and no other frame is taken until
 * it is gone. Nothing blocks and nothing is allocated.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import { readScattered, sendScattered } from "../../sys/scatter.ts";
import { Frame } from "./frame.ts";
import { ETHERNET_HEADER, MAX_FRAME } from "./protocol.ts";

/** Bytes before each frame. */
export const LENGTH_SIZE = 4;
/** Bytes that are read at once. */
const BUFFER_SIZE: number = 4 * (MAX_FRAME + LENGTH_SIZE);

/** A length beyond this one is none: the stream is out of step. */
const SENSELESS = 2 ** 20;

/** {@linkcode StreamFrames.next}: a frame is there. */
export const FRAME = 1;
/** {@linkcode StreamFrames.next}: there is nothing to read. */
export const EMPTY = 0;
/** {@linkcode StreamFrames.next}: the stream ended, or makes no sense. */
export const ENDED = -1;

/** Reads and writes frames on one socket. */
export class StreamFrames implements Disposable {
  /** The frame that {@linkcode next} found. */
  readonly frame: Frame = new Frame(1, BUFFER_SIZE);
  /** Frames whose length no Ethernet frame has. */
  badLength = 0;
  /** Why the stream ended, for people. */
  reason = "";
  readonly #fd: number;
  readonly #view: DataView<ArrayBuffer>;
  #start = 0;
  #end = 0;
  /** Bytes to pass over, of a frame that is too long. */
  #skip = 0;
  /** The rest of a frame that is being sent. */
  readonly #rest = new Frame(1, MAX_FRAME + LENGTH_SIZE);
  #restStart = 0;
  #restEnd = 0;

  /** @param fd of a connected stream socket, nonblocking */
  constructor(fd: number) {
    this.#fd = fd;
    const { bytes } = this.frame;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** True while a part of a frame waits to be sent. */
  get sending(): boolean {
    return this.#restEnd > this.#restStart;
  }

  /**
   * Looks for the next frame, and reads where none is complete.
   *
   * @returns {@linkcode FRAME}, {@linkcode EMPTY} or {@linkcode ENDED}
   */
  next(): number {
    for (;;) {
      this.#passOver();
      const have = this.#end - this.#start;
      if (have >= LENGTH_SIZE && this.#skip === 0) {
        const length = this.#view.getUint32(this.#start);
        if (length < ETHERNET_HEADER || length > MAX_FRAME) {
          this.badLength++;
          if (length > SENSELESS) {
            this.reason = `a frame of ${length} bytes makes no sense`;
            return ENDED;
          }
          this.#start += LENGTH_SIZE;
          this.#skip = length;
          continue;
        }
        if (have >= LENGTH_SIZE + length) {
          this.frame.header.clear();
          this.frame.takeBytes(this.#start + LENGTH_SIZE, length);
          this.#start += LENGTH_SIZE + length;
          return FRAME;
        }
      }
      const result = this.#read();
      if (result !== FRAME) return result;
    }
  }

  /**
   * Sends a frame.
   *
   * @returns false when an earlier one is not gone yet
   */
  send(frame: Frame): boolean {
    if (this.sending && !this.flush()) return false;
    const { headerBytes, length } = frame;
    headerBytes[0] = length >>> 24;
    headerBytes[1] = length >>> 16;
    headerBytes[2] = length >>> 8;
    headerBytes[3] = length;
    frame.words[2] = LENGTH_SIZE;
    const total = LENGTH_SIZE + length;
    const sent = sendScattered(this.#fd, frame.iovecs, 0, frame.count + 1);
    const taken = sent === total || this.#keep(frame, sent, total);
    frame.words[2] = headerBytes.length;
    return taken;
  }

  /** Sends what is left of a frame; true when nothing is. */
  flush(): boolean {
    const rest = this.#rest;
    while (this.sending) {
      rest.offerBytes(this.#restStart);
      rest.words[6] = this.#restEnd - this.#restStart;
      const sent = sendScattered(this.#fd, rest.iovecs, 1, 1);
      if (sent < 0) return this.#failed(-sent);
      this.#restStart += sent;
    }
    return true;
  }

  /** Gives the memory back; the socket is somebody else's. */
  [Symbol.dispose](): void {
    this.frame[Symbol.dispose]();
    this.#rest[Symbol.dispose]();
  }

  #passOver(): void {
    const step = Math.min(this.#skip, this.#end - this.#start);
    this.#start += step;
    this.#skip -= step;
  }

  #read(): number {
    const { frame } = this;
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    } else if (this.#start > 0 && frame.bytes.length - this.#end < MAX_FRAME) {
      frame.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    frame.offerBytes(this.#end);
    const n = readScattered(this.#fd, frame.iovecs, 1, 1);
    if (n > 0) {
      this.#end += n;
      return FRAME;
    }
    if (n === -Errno.EAGAIN) return EMPTY;
    this.reason = n === 0 ? "it was closed" : `error ${-n}`;
    return ENDED;
  }

  /** Keeps what the socket did not take; false: it took nothing. */
  #keep(frame: Frame, sent: number, total: number): boolean {
    // An error shows when the socket is read.
    if (sent < 0) return -sent !== Errno.EAGAIN;
    this.#restStart = 0;
    this.#restEnd = total - sent;
    this.#rest.offerBytes(0);
    const { bytes } = this.#rest;
    let done = 0;
    for (; sent + done < LENGTH_SIZE; done++) {
      bytes[done] = frame.headerBytes[sent + done];
    }
    this.#rest.offerBytes(done);
    const skip = Math.max(sent - LENGTH_SIZE, 0);
    frame.copyTo(this.#rest.words.subarray(4), skip, frame.length - skip);
    return true;
  }

  #failed(reason: number): boolean {
    if (reason === Errno.EAGAIN) return false;
    this.#restStart = this.#restEnd;
    return true;
  }
}
