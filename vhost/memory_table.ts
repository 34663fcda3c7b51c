/**
 * The guest memory that a front-end shares: regions, mapped.
 *
 * Theory of operation: a region is a range of guest addresses, backed by a
 * range of a file. It has three addresses: the guest's (in descriptors), the
 * front-end's own ("user address", in ring addresses) and ours (where it is
 * mapped). A {@linkcode GuestRegion} owns its mapping and its descriptor, from
 * {@linkcode MemoryTable.add} until {@linkcode MemoryTable.remove}, before
 * which nobody may hold a view of it.
 *
 * Neither guest nor user address ranges may overlap: each address means one
 * byte or none.
 *
 * @module
 */

import type { OwnedFd } from "../sys/fd.ts";
import {
  detachMemory,
  mapFile,
  type Mapping,
  pageSizeOf,
  viewMemory,
} from "../sys/mapping.ts";
import { sealAgainstShrinking } from "../sys/memfd.ts";
import { MAX_MEMORY_SLOTS } from "./constants.ts";
import type { MappedRegion } from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import type { RegionDescription } from "./message.ts";

/** A region of guest memory: its place, its mapping and its descriptor. */
export class GuestRegion implements MappedRegion {
  readonly guestAddress: number;
  readonly size: number;
  readonly hostAddress: number;
  readonly userAddress: number;
  readonly fd: number;
  readonly fileOffset: number;
  readonly pageSize: number;
  readonly #mapping: Mapping;
  readonly #backing: OwnedFd;

  /** Takes over the mapping and the descriptor. */
  constructor(
    description: RegionDescription,
    mapping: Mapping,
    backing: OwnedFd,
    pageSize: number,
  ) {
    this.guestAddress = description.guestAddress;
    this.size = description.size;
    this.hostAddress = mapping.address;
    this.userAddress = description.userAddress;
    this.fd = backing.fd;
    this.fileOffset = description.mmapOffset;
    this.pageSize = pageSize;
    this.#mapping = mapping;
    this.#backing = backing;
  }

  /** Whether a range of user addresses lies in this region as a whole. */
  holds(userAddress: number, length: number): boolean {
    return userAddress >= this.userAddress &&
      userAddress - this.userAddress <= this.size - length;
  }

  /** Unmaps the memory and closes the descriptor. */
  release(): void {
    this.#mapping.unmap();
    this.#backing.close();
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function describe(region: RegionDescription): string {
  return `region of ${region.size} bytes at guest address ${
    hex(region.guestAddress)
  }`;
}

function overlap(a: number, aSize: number, b: number, bSize: number): boolean {
  return a < b + bSize && b < a + aSize;
}

/** The regions of one session. */
export class MemoryTable {
  readonly #limit: number;
  #regions: GuestRegion[] = [];

  /**
   * A table without regions.
   *
   * @param limit most regions at a time
   */
  constructor(limit: number = MAX_MEMORY_SLOTS) {
    this.#limit = limit;
  }

  /** The regions, in the order of their arrival. */
  get regions(): readonly GuestRegion[] {
    return this.#regions;
  }

  /**
   * Maps a region and adds it.
   *
   * @param request number of the message that asks for it, for errors
   * @param backing taken over in any case; closed when the region is refused
   * @throws {ProtocolError} of kind `memory-range`, `memory-overlap`,
   * `memory-slots` or `memory-map`
   */
  add(
    request: number,
    description: RegionDescription,
    backing: OwnedFd,
  ): GuestRegion {
    try {
      this.#check(request, description);
      const region = map(request, description, backing);
      this.#regions.push(region);
      return region;
    } catch (error) {
      backing.close();
      throw error;
    }
  }

  #check(request: number, added: RegionDescription): void {
    if (this.#regions.length >= this.#limit) {
      throw new ProtocolError(
        "memory-slots",
        request,
        `all ${this.#limit} memory slots are in use`,
      );
    }
    if (added.size === 0) {
      throw new ProtocolError(
        "memory-range",
        request,
        `${describe(added)} is empty`,
      );
    }
    for (
      const field of ["guestAddress", "userAddress", "mmapOffset"] as const
    ) {
      if (added[field] + added.size > Number.MAX_SAFE_INTEGER) {
        throw new ProtocolError(
          "memory-range",
          request,
          `${describe(added)} ends beyond 2^53: ${field} is ${
            hex(added[field])
          }`,
        );
      }
    }
    for (const old of this.#regions) {
      for (const field of ["guestAddress", "userAddress"] as const) {
        if (overlap(added[field], added.size, old[field], old.size)) {
          throw new ProtocolError(
            "memory-overlap",
            request,
            `${describe(added)} overlaps another region: ${field} ${
              hex(added[field])
            } against ${hex(old[field])}, ${old.size} bytes`,
          );
        }
      }
    }
  }

  /**
   * Finds the region that a front-end names: by guest address, user address
   * and size. The mmap offset does not count.
   *
   * @throws {ProtocolError} of kind `memory-unknown`
   */
  find(request: number, named: RegionDescription): GuestRegion {
    const found = this.#regions.find((region) =>
      region.guestAddress === named.guestAddress &&
      region.userAddress === named.userAddress && region.size === named.size
    );
    if (found === undefined) {
      throw new ProtocolError(
        "memory-unknown",
        request,
        `there is no ${describe(named)} and user address ${
          hex(named.userAddress)
        }`,
      );
    }
    return found;
  }

  /** Removes a region and unmaps it. Nobody may have a view of it any more. */
  remove(region: GuestRegion): void {
    this.#regions = this.#regions.filter((other) => other !== region);
    region.release();
  }

  /** Removes and unmaps all regions; as {@linkcode MemoryTable.remove}. */
  clear(): void {
    for (const region of [...this.#regions]) this.remove(region);
  }

  /** Hands a region over to another table, which holds none that overlaps. */
  move(region: GuestRegion, to: MemoryTable): void {
    this.#regions = this.#regions.filter((other) => other !== region);
    to.#regions.push(region);
  }

  /** Reads 32 bits of guest memory; 0 where there is none. */
  read32(guestAddress: number): number {
    for (const { guestAddress: start, size, hostAddress } of this.#regions) {
      const offset = guestAddress - start;
      if (offset < 0 || offset + 4 > size) continue;
      const view = viewMemory(hostAddress + offset, 4);
      const value = new DataView(view).getUint32(0, true);
      detachMemory(view);
      return value;
    }
    return 0;
  }

  /**
   * Translates a range of user addresses.
   *
   * @returns its guest address, or -1 when it does not lie in one region
   */
  toGuest(userAddress: number, length: number): number {
    for (const region of this.#regions) {
      if (region.holds(userAddress, length)) {
        return region.guestAddress + (userAddress - region.userAddress);
      }
    }
    return -1;
  }
}

function map(
  request: number,
  description: RegionDescription,
  backing: OwnedFd,
): GuestRegion {
  let mapping: Mapping | undefined;
  try {
    sealAgainstShrinking(backing.fd);
    mapping = mapFile(backing.fd, {
      offset: description.mmapOffset,
      size: description.size,
    });
    // A guest's memory is its own business, and large.
    mapping.advise("no-dump");
    const pageSize = pageSizeOf(backing.fd);
    return new GuestRegion(description, mapping, backing, pageSize);
  } catch (cause) {
    mapping?.unmap();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ProtocolError(
      "memory-map",
      request,
      `${describe(description)} cannot be mapped: ${reason}`,
      { cause },
    );
  }
}
