/**
 * A frame on its way: a virtio header and the places where its bytes lie.
 *
 * Theory of operation: a frame is a scatter list. Element 0 is the header, in
 * memory that no guest reaches; the others are the bytes. A frame that comes from
 * a guest stays in its memory, but for the first bytes: addresses and a tag
 * are copied, decided on, and the copy is what goes on. A frame that comes from
 * elsewhere lies in a buffer of its own. Frames are made once and used again for
 * every frame that follows.
 *
 * @module
 */

import { Arena } from "../../sys/arena.ts";
import { IovecTable } from "../../sys/iovec.ts";
import { copyScattered } from "../../sys/scatter.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { readHead } from "../../virtqueue/chain_head.ts";
import { NetHeader } from "./header.ts";
import { HEADER_SIZE, MAC_SIZE } from "./protocol.ts";

const TWO_32 = 4294967296;
/** Words of an element. */
const STEP = 4;

/** Bytes at the start of a frame that are always copied: with one tag. */
export const START_SIZE = 16;
/** Words of a header and of the start of a frame. */
export const HEADER_WORDS: number = HEADER_SIZE / 4;
export const START_WORDS: number = START_SIZE / 4;

/** A frame. */
export class Frame implements Disposable {
  /** What is left to do with it. */
  readonly header: NetHeader = new NetHeader();
  /** Element 0: {@linkcode headerBytes}; from 1 on: the bytes of the frame. */
  readonly iovecs: IovecTable;
  /** The words of {@linkcode iovecs}. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Room for the encoded header. */
  readonly headerBytes: Uint8Array<ArrayBuffer>;
  /** The first bytes of the frame, as many as it has up to 16. */
  readonly start: Uint8Array<ArrayBuffer>;
  /**
   * {@linkcode headerBytes} and {@linkcode start}, which lie one behind the
   * other, as three and four words.
   */
  readonly lead: Uint32Array<ArrayBuffer>;
  /** Its own buffer. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Elements that hold the frame. */
  count = 0;
  /** Bytes of the frame. */
  length = 0;
  readonly #segments: number;
  readonly #arena: Arena;
  /** Address of {@linkcode start}, as two words. */
  readonly #startLow: number;
  readonly #startHigh: number;
  readonly #bytesAddress: number;
  /** Where in its own buffer the frame lies; -1: in guest memory. */
  #offset = -1;

  /**
   * @param segments most pieces of guest memory
   * @param bufferSize bytes of its own buffer
   */
  constructor(segments: number, bufferSize = 0) {
    this.#segments = segments;
    this.iovecs = new IovecTable(1, segments + 2);
    this.words = this.iovecs.words;
    this.#arena = new Arena(256 + bufferSize);
    const lead = this.#arena.alloc(HEADER_SIZE + START_SIZE);
    const buffer = this.#arena.alloc(bufferSize);
    const memory = this.#arena.u8;
    const start = lead.offset + HEADER_SIZE;
    this.headerBytes = memory.subarray(lead.offset, start);
    this.start = memory.subarray(start, start + START_SIZE);
    this.lead = new Uint32Array(
      memory.buffer,
      memory.byteOffset + lead.offset,
      HEADER_WORDS + START_WORDS,
    );
    this.bytes = memory.subarray(buffer.offset, buffer.offset + bufferSize);
    const startAddress = lead.address + HEADER_SIZE;
    this.#startLow = startAddress | 0;
    this.#startHigh = Math.floor(startAddress / TWO_32);
    this.#bytesAddress = buffer.address;
    this.setElement(0, lead.address, HEADER_SIZE);
  }

  /** Sets an element of the list to memory of this process. */
  setElement(index: number, address: number, length: number): void {
    const at = index * STEP;
    this.words[at] = address;
    this.words[at + 1] = address / TWO_32;
    this.words[at + 2] = length;
    this.words[at + 3] = 0;
  }

  /**
   * Takes the frame that a driver sends, behind a header of `headerSize` bytes,
   * out of a chain, which has to stay taken while the frame is used.
   *
   * @returns false when the chain cannot be worked on
   */
  takeChain(chain: DescriptorChain, headerSize: number): boolean {
    const { lead, words } = this;
    const length = chain.readableLength - headerSize;
    this.length = length;
    this.#offset = -1;
    // As a rule header and frame are one buffer,
    if (
      headerSize === HEADER_SIZE && length > START_SIZE &&
      readHead(chain, lead, HEADER_WORDS + START_WORDS, words, 2 * STEP)
    ) {
      this.header.decode(lead);
      this.#setStart(START_SIZE);
      this.count = 2;
      return true;
    }
    return this.#takePieces(chain, headerSize, length);
  }

  /** Takes a frame that does not lie in one buffer with its header. */
  #takePieces(
    chain: DescriptorChain,
    headerSize: number,
    length: number,
  ): boolean {
    const { lead, words } = this;
    const head = length < START_SIZE ? length : START_SIZE;
    // or one each.
    if (
      head < START_SIZE || headerSize !== HEADER_SIZE ||
      chain.lengths[0] !== HEADER_SIZE ||
      !chain.readWords(0, lead, 0, HEADER_WORDS) ||
      !chain.readWords(HEADER_SIZE, lead, HEADER_WORDS, START_WORDS)
    ) {
      const done = chain.read(0, this.headerBytes, 0, headerSize) +
        chain.read(headerSize, this.start, 0, head);
      if (done !== headerSize + head) return false;
    }
    this.header.decode(lead);
    this.#setStart(head);
    this.count = 1;
    if (head === length) return true;
    const count = chain.iovec(
      words,
      2 * STEP,
      this.#segments,
      false,
      headerSize + head,
      length - head,
    );
    this.count = 1 + count;
    return count > 0;
  }

  /** Makes element 1 the copy of the first bytes. */
  #setStart(length: number): void {
    const { words } = this;
    words[STEP] = this.#startLow;
    words[STEP + 1] = this.#startHigh;
    words[STEP + 2] = length;
  }

  /** Becomes a piece of its own buffer. */
  takeBytes(offset: number, length: number): void {
    this.setElement(1, this.#bytesAddress + offset, length);
    this.count = 1;
    this.length = length;
    this.#offset = offset;
    const head = length < START_SIZE ? length : START_SIZE;
    for (let i = 0; i < head; i++) this.start[i] = this.bytes[offset + i];
  }

  /**
   * Makes element 1 all of its own buffer, for a read into it.
   *
   * @param offset where to read to
   */
  offerBytes(offset: number): void {
    this.setElement(
      1,
      this.#bytesAddress + offset,
      this.bytes.length - offset,
    );
  }

  /** Becomes a copy of another frame, in its own buffer. */
  copy(other: Frame): void {
    this.header.copy(other.header);
    this.offerBytes(0);
    copyScattered(this.words, STEP, other.words, STEP, 0, other.length);
    this.takeBytes(0, other.length);
  }

  /**
   * Copies bytes of the frame to the memory of a list.
   *
   * @param skip bytes of the frame to leave out
   */
  copyTo(words: Uint32Array, skip: number, length: number): void {
    copyScattered(words, 0, this.words, STEP, skip, length);
  }

  /** Exchanges source and destination. */
  swapAddresses(): void {
    const { start } = this;
    for (let i = 0; i < MAC_SIZE; i++) {
      const byte = start[i];
      start[i] = start[MAC_SIZE + i];
      start[MAC_SIZE + i] = byte;
    }
    if (this.#offset < 0) return;
    for (let i = 0; i < 2 * MAC_SIZE; i++) {
      this.bytes[this.#offset + i] = start[i];
    }
  }

  /** Gives the memory back. */
  [Symbol.dispose](): void {
    this.iovecs[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}
