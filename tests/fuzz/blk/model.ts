/**
 * What a block device has to do with a request: a model, from virtio 1.4,
 * section 5.2, and what `backends/blk/device.ts` says of its choices.
 *
 * @module
 */

import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { piecesOf } from "../ring/chain_check.ts";
import { type ModelChain, totalOf } from "../ring/model.ts";

const OK = 0, IOERR = 1, UNSUPP = 2;

/** Bytes of a device ID. */
const ID_SIZE = 20;
/** Buffers that may cross from one region into the next. */
const CROSSINGS = 16;
const SPARE = 4;

/** A device, as its options make it. */
export interface DiskFacts {
  /** Size in bytes. */
  readonly size: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly segMax: number;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  readonly serial: string;
}

/** How a request ended. */
export interface Ending {
  /** Length of the answer. */
  readonly written: number;
  /** Status; -1 where there is no room for it. */
  readonly status: number;
}

type Piece = readonly [address: bigint, length: number];

/** A disk that is an array. */
export class BlkModel {
  readonly #memory: FuzzMemory;
  readonly #facts: DiskFacts;
  /** Contents of the disk. */
  readonly image: Uint8Array<ArrayBuffer>;

  /** Makes a disk of zeroes. */
  constructor(memory: FuzzMemory, facts: DiskFacts) {
    this.#memory = memory;
    this.#facts = facts;
    this.image = new Uint8Array(facts.size);
  }

  /** Does what a request asks, in memory and on the disk. */
  serve(chain: ModelChain, legacy: boolean): Ending {
    const readable = piecesOf(this.#memory, chain.readable);
    const writable = piecesOf(this.#memory, chain.writable);
    const room = totalOf(chain.writable);
    if (room === 0) return { written: 0, status: -1 };
    const most = this.#facts.segMax + 17;
    const buffers = chain.readable.length + chain.writable.length;
    const pieces = readable.length + writable.length;
    let ending = { written: 1, status: IOERR };
    if (buffers <= most && pieces <= most + SPARE) {
      ending = this.#serve(readable, writable, totalOf(chain.readable), legacy);
    }
    const [address, length] = writable[writable.length - 1];
    this.#memory.write8(address + BigInt(length - 1), ending.status);
    return ending;
  }

  #serve(
    readable: readonly Piece[],
    writable: readonly Piece[],
    sent: number,
    legacy: boolean,
  ): Ending {
    const fail = { written: 1, status: IOERR };
    const done = { written: 1, status: OK };
    if (sent < 16) return fail;
    let type = this.#word(readable, 0);
    const sector = this.#long(readable, 8);
    if (legacy) {
      type %= 2 ** 31;
      if (type === 5) type = 4;
    }
    const room = writable.reduce((sum, [, length]) => sum + length, 0);
    const { readOnly } = this.#facts;
    switch (type) {
      case 0: {
        const places = within(writable, 0, room - 1);
        if (!this.#fits(sector, room - 1, places)) return fail;
        const at = Number(sector) * 512;
        this.#put(places, this.image.slice(at, at + room - 1));
        return { written: room, status: OK };
      }
      case 1: {
        const places = within(readable, 16, sent - 16);
        if (readOnly || !this.#fits(sector, sent - 16, places)) return fail;
        this.image.set(this.#get(places), Number(sector) * 512);
        return done;
      }
      case 4:
        return done;
      case 8: {
        const id = new Uint8Array(ID_SIZE);
        new TextEncoder().encodeInto(this.#facts.serial, id);
        const length = Math.min(room - 1, ID_SIZE);
        this.#put(within(writable, 0, length), id);
        return { written: length + 1, status: OK };
      }
      case 11:
        if (readOnly) return fail;
        if (!this.#facts.discard) return { written: 1, status: UNSUPP };
        return this.#ranges(readable, sent - 16, 32, 1n << 22n, 0);
      case 13:
        if (readOnly) return fail;
        if (!this.#facts.writeZeroes) return { written: 1, status: UNSUPP };
        return this.#ranges(readable, sent - 16, 4, 1n << 16n, 1);
      default:
        return { written: 1, status: UNSUPP };
    }
  }

  /** All ranges are judged, then each is judged again and worked on. */
  #ranges(
    readable: readonly Piece[],
    length: number,
    most: number,
    mostSectors: bigint,
    known: number,
  ): Ending {
    const count = length / 16;
    if (count < 1 || count > most || !Number.isInteger(count)) {
      return { written: 1, status: IOERR };
    }
    let status = OK;
    for (let i = 0; i < count; i++) {
      const { verdict } = this.#range(readable, i, mostSectors, known);
      if (verdict === UNSUPP) return { written: 1, status: UNSUPP };
      if (status === OK) status = verdict;
    }
    for (let i = 0; i < count && status === OK; i++) {
      const range = this.#range(readable, i, mostSectors, known);
      status = range.verdict;
      if (status !== OK) break;
      const from = Number(range.sector) * 512;
      this.image.fill(0, from, from + Number(range.sectors) * 512);
    }
    return { written: 1, status };
  }

  #range(
    readable: readonly Piece[],
    i: number,
    most: bigint,
    known: number,
  ): { verdict: number; sector: bigint; sectors: bigint } {
    const at = 16 + 16 * i;
    const sector = this.#long(readable, at);
    const sectors = BigInt(this.#word(readable, at + 8));
    const flags = this.#word(readable, at + 12);
    let verdict = OK;
    if (flags > known) verdict = UNSUPP;
    else if (
      sectors > most || !this.#aligned(sector * 512n) ||
      !this.#aligned(sectors * 512n) || !this.#inside(sector, sectors * 512n)
    ) verdict = IOERR;
    return { verdict, sector, sectors };
  }

  #aligned(bytes: bigint): boolean {
    return bytes % BigInt(this.#facts.blockSize) === 0n;
  }

  #inside(sector: bigint, bytes: bigint): boolean {
    return sector * 512n + bytes <= BigInt(this.#facts.size);
  }

  #fits(sector: bigint, length: number, places: readonly Piece[]): boolean {
    const { segMax } = this.#facts;
    if (!this.#aligned(BigInt(length)) || !this.#aligned(sector * 512n)) {
      return false;
    }
    if (!this.#inside(sector, BigInt(length))) return false;
    if (places.length <= segMax) return true;
    // A buffer that crosses from one region into the next is still one.
    let buffers = 0, end = -1n;
    for (const [address, size] of places) {
      if (address !== end) buffers++;
      end = address + BigInt(size);
    }
    return places.length <= segMax + CROSSINGS && buffers <= segMax;
  }

  #get(places: readonly Piece[]): Uint8Array<ArrayBuffer> {
    const parts = places.map(([address, length]) =>
      this.#memory.readBytes(address, length)
    );
    const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #put(places: readonly Piece[], bytes: Uint8Array): void {
    let from = 0;
    for (const [address, length] of places) {
      for (let i = 0; i < length; i++) {
        this.#memory.write8(address + BigInt(i), bytes[from++]);
      }
    }
  }

  #long(pieces: readonly Piece[], position: number): bigint {
    const low = this.#word(pieces, position);
    return BigInt(this.#word(pieces, position + 4)) << 32n | BigInt(low);
  }

  /** Read at once where it lies in one piece, else byte by byte, last first. */
  #word(pieces: readonly Piece[], position: number): number {
    const places = within(pieces, position, 4);
    if (places.length === 1) return this.#memory.read(places[0][0], 4);
    let value = 0;
    for (let i = 3; i >= 0; i--) {
      const [[address]] = within(pieces, position + i, 1);
      value = value * 256 + this.#memory.read8(address);
    }
    return value;
  }
}

/** A range of a part, by the pieces of the part. */
function within(
  pieces: readonly Piece[],
  position: number,
  length: number,
): Piece[] {
  const found: Piece[] = [];
  let start = 0;
  for (const [address, size] of pieces) {
    const from = Math.max(position - start, 0);
    const to = Math.min(position + length - start, size);
    if (from < to) found.push([address + BigInt(from), to - from]);
    start += size;
  }
  return found;
}
