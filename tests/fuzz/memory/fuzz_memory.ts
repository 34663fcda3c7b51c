/**
 * Guest memory and what it should contain.
 *
 * Theory of operation. Each region exists twice: the bytes that the device has,
 * and a shadow that the model has. The driver writes both. After a call of the
 * device, and after the model did the same to the shadow, both must be equal,
 * and the guard bytes around each region untouched.
 *
 * The model reads by 64-bit address (a bigint), byte by byte, over the borders
 * of regions; it has nothing in common with the code under test.
 *
 * One word may be racing: the device sees its old value up to some read and
 * the new one from then on, and the model is run for each such read.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import { comparable, equalBytes } from "../engine/equal.ts";
import { expect } from "../engine/target.ts";
import type { ReadPlace } from "./racing_reads.ts";
import { GuestMemory, type RegionBacking } from "../../../virtqueue/memory.ts";

/** Bytes before and behind each region, in the same buffer. */
export const GUARD = 64;
const GUARD_BYTE = 0xc3;
const GUARD_BYTES = comparable(new Uint8Array(GUARD).fill(GUARD_BYTE));

/** Where a region lies, and its bytes. */
export interface FuzzRegion {
  /** Guest address of the first byte. */
  readonly guestAddress: number;
  /** Length in bytes, a multiple of 4. */
  readonly size: number;
  /** Bytes of the region with {@linkcode GUARD} bytes on each side. */
  readonly guarded: Uint8Array<ArrayBuffer>;
  /** Address in this process of the first byte of the region. */
  readonly hostAddress: number;
  /** What it belongs to (default: nothing). */
  readonly backing?: RegionBacking;
}

/** A word that changes while the device reads. */
export interface RacingWord {
  /** Guest address, a multiple of 4, in memory. */
  readonly address: bigint;
  /** Its value in the end. */
  readonly value: number;
}

interface Region {
  readonly start: bigint;
  readonly end: bigint;
  readonly size: number;
  readonly real: Uint8Array<ArrayBuffer>;
  readonly realWords: Uint32Array<ArrayBuffer>;
  readonly shadow: Uint8Array<ArrayBuffer>;
  readonly shadowWords: Uint32Array<ArrayBuffer>;
  readonly guards: readonly Buffer[];
  readonly realBytes: Buffer;
  readonly shadowBytes: Buffer;
  readonly description: FuzzRegion;
}

/** A place in a region. */
interface Place {
  readonly region: Region;
  readonly offset: number;
}

function addTo(memory: GuestMemory, { description, real }: Region): void {
  memory.add({
    guestAddress: description.guestAddress,
    size: description.size,
    buffer: real.buffer,
    byteOffset: real.byteOffset,
    hostAddress: description.hostAddress,
    backing: description.backing,
  });
}

/** The memory of a guest, twice. */
export class FuzzMemory {
  /** All regions, those that are unplugged too. */
  readonly #all: readonly Region[];
  /** Those that are there. */
  #regions: readonly Region[];
  #racing: RacingWord | null = null;
  #visits = 0;
  #switchAt = Infinity;
  #disturbed = false;

  /** Takes over regions, which do not overlap. */
  constructor(regions: readonly FuzzRegion[]) {
    this.#all = regions.map((description) => {
      const { guestAddress, size, guarded } = description;
      const real = guarded.subarray(GUARD, GUARD + size);
      const shadow = new Uint8Array(size);
      return {
        start: BigInt(guestAddress),
        end: BigInt(guestAddress) + BigInt(size),
        size,
        real,
        realWords: new Uint32Array(real.buffer, real.byteOffset, size / 4),
        shadow,
        shadowWords: new Uint32Array(shadow.buffer),
        guards: [
          comparable(guarded.subarray(0, GUARD)),
          comparable(guarded.subarray(GUARD + size)),
        ],
        realBytes: comparable(real),
        shadowBytes: comparable(shadow),
        description,
      };
    });
    this.#regions = this.#all;
    this.clear();
  }

  /** The device's side. */
  share(): GuestMemory {
    const memory = new GuestMemory(8);
    for (const region of this.#regions) addTo(memory, region);
    return memory;
  }

  /** Unplugs a region, or plugs it in again; whether it is there now. */
  toggle(which: number, shared: GuestMemory): boolean {
    const region = this.#all[which];
    const there = !this.#regions.includes(region);
    if (there) addTo(shared, region);
    else shared.remove(region.description.guestAddress, region.size);
    this.#regions = there
      ? [...this.#regions, region]
      : this.#regions.filter((other) => other !== region);
    return there;
  }

  /**
   * Plugs everything in and fills it with zeroes, and the guards with their
   * byte.
   */
  clear(): void {
    this.#regions = this.#all;
    for (const { real, shadow, guards } of this.#all) {
      real.fill(0);
      shadow.fill(0);
      for (const guard of guards) guard.fill(GUARD_BYTE);
    }
  }

  /** Bytes from an address to the end of the memory around it; 0 in a hole. */
  room(address: bigint): bigint {
    let end = address;
    for (let found = true; found;) {
      const region = this.#regions.find((r) => end >= r.start && end < r.end);
      found = region !== undefined;
      if (region !== undefined) end = region.end;
    }
    return end - address;
  }

  /** Whether a range lies in memory, be it in several regions. */
  holds(address: bigint, length: number): boolean {
    return this.room(address) >= BigInt(length) && length > 0;
  }

  /** Whether a range lies in one region. */
  holdsInOne(address: bigint, length: number): boolean {
    return this.#regions.some(({ start, end }) =>
      address >= start && address + BigInt(length) <= end
    );
  }

  /** Cuts a range where regions meet. */
  pieces(address: bigint, length: number): [address: bigint, length: number][] {
    const pieces: [bigint, number][] = [];
    let at = address, left = length;
    while (left > 0) {
      const region = this.#regions.find((r) => at >= r.start && at < r.end)!;
      const piece = Math.min(left, Number(region.end - at));
      pieces.push([at, piece]);
      at += BigInt(piece);
      left -= piece;
    }
    return pieces;
  }

  /** The address in this process of a byte. */
  hostAddress(address: bigint): number {
    const { region, offset } = this.#place(address)!;
    return region.description.hostAddress + offset;
  }

  /** The driver writes; what lies outside of memory is left out. */
  driverWrite(address: bigint, bytes: Uint8Array): void {
    const end = address + BigInt(bytes.length);
    for (const { start, end: regionEnd, real, shadow } of this.#regions) {
      const from = address > start ? address : start;
      const to = end < regionEnd ? end : regionEnd;
      if (from >= to) continue;
      const piece = bytes.subarray(
        Number(from - address),
        Number(to - address),
      );
      real.set(piece, Number(from - start));
      shadow.set(piece, Number(from - start));
    }
  }

  /** The driver writes a little-endian number of `size` bytes. */
  driverPut(address: bigint, size: number, value: number | bigint): void {
    const bytes = new Uint8Array(size);
    let rest = BigInt(value);
    for (let i = 0; i < size; i++) {
      bytes[i] = Number(rest & 255n);
      rest >>= 8n;
    }
    this.driverWrite(address, bytes);
  }

  /** The model reads a little-endian number of up to 4 bytes, all in memory. */
  read(address: bigint, size: number): number {
    return this.#value(address, size);
  }

  /** The model reads a byte. */
  read8(address: bigint): number {
    return this.#value(address, 1);
  }

  /** A copy of what the model has in a range, outside of a race. */
  copy(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const [at, size] of this.pieces(address, length)) {
      const { region: { shadow }, offset } = this.#place(at)!;
      bytes.set(shadow.subarray(offset, offset + size), done);
      done += size;
    }
    return bytes;
  }

  /** The model reads bytes. */
  readBytes(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      bytes[i] = this.#value(address + BigInt(i), 1);
    }
    return bytes;
  }

  /** The model writes a byte, as the device must. */
  write8(address: bigint, value: number): void {
    const racing = this.#racing;
    if (
      racing !== null && address >= racing.address &&
      address < racing.address + 4n
    ) this.#disturbed = true;
    const place = this.#place(address);
    if (place !== undefined) place.region.shadow[place.offset] = value;
  }

  /** The model writes a little-endian number. */
  write(address: bigint, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      this.write8(address + BigInt(i), Math.floor(value / 2 ** (8 * i)) & 255);
    }
  }

  /** A region has one value in every byte, on both sides. */
  fill(which: number, value: number): void {
    const { real, shadow } = this.#all[which];
    real.fill(value);
    shadow.fill(value);
  }

  /** The model has zeroes in a range. */
  erase(address: bigint, length: number): void {
    for (const [at, size] of this.pieces(address, length)) {
      const { region: { shadow }, offset } = this.#place(at)!;
      shadow.fill(0, offset, offset + size);
    }
  }

  /** What the device has in a range is right: the model takes it over. */
  adopt(address: bigint, length: number): void {
    for (const [at, size] of this.pieces(address, length)) {
      const { region: { real, shadow }, offset } = this.#place(at)!;
      shadow.set(real.subarray(offset, offset + size), offset);
    }
  }

  #place(address: bigint): Place | undefined {
    for (const region of this.#regions) {
      if (address >= region.start && address < region.end) {
        return { region, offset: Number(address - region.start) };
      }
    }
    return undefined;
  }

  #value(address: bigint, size: number): number {
    const racing = this.#racing;
    let fresh = false;
    if (
      racing !== null && address + BigInt(size) > racing.address &&
      address < racing.address + 4n
    ) {
      fresh = this.#visits >= this.#switchAt;
      this.#visits++;
    }
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const at = address + BigInt(i);
      let byte = 0;
      if (fresh && at >= racing!.address && at < racing!.address + 4n) {
        byte = racing!.value >>> (8 * Number(at - racing!.address)) & 255;
      } else {
        const place = this.#place(at);
        expect(place !== undefined, () => `The model left memory at ${at}`);
        byte = place.region.shadow[place.offset];
      }
      value = value * 256 + byte;
    }
    return value;
  }

  // Races.

  /** Guest address of the word at a place; `null` when it is elsewhere. */
  addressOf({ buffer, byteOffset }: ReadPlace): bigint | null {
    for (const { real, size, start } of this.#regions) {
      const offset = byteOffset - real.byteOffset;
      if (real.buffer === buffer && offset >= 0 && offset < size) {
        return start + BigInt(offset - offset % 4);
      }
    }
    return null;
  }

  /** The word at an address as the device has it. */
  wordAt(address: bigint): number {
    const { region, offset } = this.#place(address)!;
    return region.realWords[offset / 4];
  }

  /** Where a word is in the device's memory. */
  placeOf(word: RacingWord): ReadPlace {
    const { region, offset } = this.#place(word.address)!;
    const { buffer, byteOffset } = region.real;
    return { buffer, byteOffset: byteOffset + offset };
  }

  /** Changes a word in the device's memory alone, at once. */
  changeReal(word: RacingWord): void {
    const { region, offset } = this.#place(word.address)!;
    region.realWords[offset / 4] = word.value;
  }

  /** The model sees the old value of a word `visits` times, then the new one. */
  race(word: RacingWord, visits: number): void {
    this.#racing = word;
    this.#switchAt = visits;
    this.#visits = 0;
    this.#disturbed = false;
  }

  /** Reads of the racing word by the model. */
  get visits(): number {
    return this.#visits;
  }

  /** The model wrote to the racing word: nobody knows what it holds now. */
  get disturbed(): boolean {
    return this.#disturbed;
  }

  /** The race is over: the word has its new value on both sides. */
  settle(): void {
    const word = this.#racing!;
    this.#racing = null;
    const { region, offset } = this.#place(word.address)!;
    region.realWords[offset / 4] = word.value;
    region.shadowWords[offset / 4] = word.value;
  }

  /** A copy of all that the model sees. */
  snapshot(): Uint8Array[] {
    return this.#all.map(({ shadow }) => shadow.slice());
  }

  /** Goes back to a copy. */
  restore(snapshot: readonly Uint8Array[]): void {
    this.#all.forEach(({ shadow }, i) => shadow.set(snapshot[i]));
  }

  /** What differs from what the model says; `null` when nothing does. */
  difference(): string | null {
    for (const region of this.#all) {
      const { realWords, shadowWords, guards, start } = region;
      const same = equalBytes(region.realBytes, region.shadowBytes);
      for (let i = 0; !same && i < realWords.length; i++) {
        if (realWords[i] === shadowWords[i]) continue;
        const at = start + BigInt(4 * i);
        if (this.#racing?.address === at) continue;
        const is = realWords[i].toString(16);
        const should = shadowWords[i].toString(16);
        return `memory at 0x${at.toString(16)} is 0x${is}, not 0x${should}`;
      }
      for (const guard of guards) {
        if (!equalBytes(guard, GUARD_BYTES)) {
          return `bytes beside the region at 0x${start.toString(16)} changed`;
        }
      }
    }
    return null;
  }

  /** The device's memory is what the model says. */
  compare(after: string): void {
    const difference = this.difference();
    expect(difference === null, () => `After ${after} ${difference}`);
  }
}
