/**
 * Guest memory as a driver has it, for tests: a set of byte ranges by guest
 * address, with an allocator.
 *
 * @module
 */

import type { GuestMemory } from "../memory.ts";

/** A range of guest memory that a test provides. */
export interface FakeRegion {
  /** Guest physical address of the first byte. */
  readonly guestAddress: number;
  /** The bytes; a number makes that many zero bytes. */
  readonly bytes: Uint8Array<ArrayBuffer> | number;
  /** Address of the first byte in this process (default 0). */
  readonly hostAddress?: number;
}

interface Region {
  readonly guestAddress: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly hostAddress: number;
}

/** Free bytes of one region. Holes are kept by ascending address, never touching. */
interface Hole {
  address: number;
  size: number;
  readonly region: Region;
}

/**
 * The driver's side of guest memory. The device's side is a
 * {@linkcode GuestMemory} that {@linkcode FakeMemory.share} fills.
 */
export class FakeMemory {
  readonly #regions: Region[] = [];
  readonly #holes: Hole[] = [];

  /** Makes a memory of regions, which do not overlap. */
  constructor(regions: readonly FakeRegion[]) {
    for (const region of regions) this.add(region);
  }

  /** Adds a region, all of it free. */
  add(region: FakeRegion): void {
    const bytes = typeof region.bytes === "number"
      ? new Uint8Array(region.bytes)
      : region.bytes;
    const { guestAddress, hostAddress = 0 } = region;
    this.#regions.push({
      guestAddress,
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      hostAddress,
    });
    this.free(guestAddress, bytes.length);
  }

  /** Adds every region to the device's side. */
  share(memory: GuestMemory): GuestMemory {
    for (const { guestAddress, bytes, hostAddress } of this.#regions) {
      memory.add({
        guestAddress,
        size: bytes.length,
        buffer: bytes.buffer,
        byteOffset: bytes.byteOffset,
        hostAddress,
      });
    }
    return memory;
  }

  /**
   * Reserves bytes in one region.
   *
   * @returns their guest address.
   * @throws {RangeError} when no region has room.
   */
  allocate(size: number, alignment: number = 1): number {
    for (let i = 0; i < this.#holes.length; i++) {
      const hole = this.#holes[i];
      const address = Math.ceil(hole.address / alignment) * alignment;
      const skipped = address - hole.address;
      if (skipped + size > hole.size) continue;
      const rest = hole.size - skipped - size;
      if (skipped > 0) {
        hole.size = skipped;
        if (rest > 0) {
          const { region } = hole;
          this.#holes.splice(i + 1, 0, {
            address: address + size,
            size: rest,
            region,
          });
        }
      } else if (rest > 0) {
        hole.address += size;
        hole.size = rest;
      } else {
        this.#holes.splice(i, 1);
      }
      return address;
    }
    throw new RangeError(`Cannot allocate ${size} bytes of fake guest memory`);
  }

  /** Gives reserved bytes back. */
  free(address: number, size: number): void {
    if (size === 0) return;
    const holes = this.#holes;
    const region = this.#find(address, size);
    let at = 0;
    while (at < holes.length && holes[at].address < address) at++;
    const before = at > 0 ? holes[at - 1] : undefined;
    const after = at < holes.length ? holes[at] : undefined;
    const end = address + size;
    if (before?.region === region && before.address + before.size === address) {
      before.size += size;
      if (after?.region === region && after.address === end) {
        before.size += after.size;
        holes.splice(at, 1);
      }
    } else if (after?.region === region && after.address === end) {
      after.address = address;
      after.size += size;
    } else {
      holes.splice(at, 0, { address, size, region });
    }
  }

  /** The bytes of a range that lies in one region, not copied. */
  bytes(address: number, length: number): Uint8Array<ArrayBuffer> {
    const region = this.#find(address, length);
    const offset = address - region.guestAddress;
    return region.bytes.subarray(offset, offset + length);
  }

  /** Copies bytes out; the range may span adjacent regions. */
  read(address: number, length: number): Uint8Array<ArrayBuffer> {
    const copy = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { guestAddress, bytes } = this.#find(address + done, 1);
      const at = address + done - guestAddress;
      const piece = bytes.subarray(at, at + length - done);
      copy.set(piece, done);
      done += piece.length;
    }
    return copy;
  }

  /** Copies bytes in; the range may span adjacent regions. */
  write(address: number, from: Uint8Array): void {
    for (let done = 0; done < from.length;) {
      const { guestAddress, bytes } = this.#find(address + done, 1);
      const at = address + done - guestAddress;
      const piece = from.subarray(done, done + bytes.length - at);
      bytes.set(piece, at);
      done += piece.length;
    }
  }

  /** Reads a little-endian 16-bit value. */
  getUint16(address: number): number {
    const { view, guestAddress } = this.#find(address, 2);
    return view.getUint16(address - guestAddress, true);
  }

  /** Writes a little-endian 16-bit value. */
  setUint16(address: number, value: number): void {
    const { view, guestAddress } = this.#find(address, 2);
    view.setUint16(address - guestAddress, value, true);
  }

  /** Reads a little-endian 32-bit value. */
  getUint32(address: number): number {
    const { view, guestAddress } = this.#find(address, 4);
    return view.getUint32(address - guestAddress, true);
  }

  /** Writes a little-endian 32-bit value. */
  setUint32(address: number, value: number): void {
    const { view, guestAddress } = this.#find(address, 4);
    view.setUint32(address - guestAddress, value, true);
  }

  #find(address: number, length: number): Region {
    for (const region of this.#regions) {
      const offset = address - region.guestAddress;
      if (offset >= 0 && offset + length <= region.bytes.length) return region;
    }
    throw new RangeError(
      `Cannot access fake guest memory at 0x${address.toString(16)} of ` +
        `${length} bytes: no region holds it`,
    );
  }
}
