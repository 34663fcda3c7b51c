/**
 * A region of guest memory as a front-end shares it, for tests.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import { mapFile, type Mapping } from "../../sys/mapping.ts";
import { createMemfd } from "../../sys/memfd.ts";
import type { RegionDescription } from "../message.ts";

/** Distance from guest to user addresses where nothing else is said. */
export const USER_OFFSET = 0x7f00_0000_0000;

/** Options of {@linkcode SharedRegion.create}. */
export interface SharedRegionOptions {
  /** Default: {@linkcode USER_OFFSET} above the guest address. */
  readonly userAddress?: number;
  /** Where the region starts in its memfd, in bytes. Default 0. */
  readonly fileOffset?: number;
  /** The memfd is open for seals. Default true. */
  readonly seals?: boolean;
  /** Huge pages of the system's default size, which have to be free. */
  readonly hugetlb?: boolean;
}

/** A memfd, mapped, at a place in guest memory. */
export class SharedRegion implements Disposable {
  readonly guestAddress: number;
  /** Length in bytes. */
  readonly size: number;
  readonly userAddress: number;
  readonly fileOffset: number;
  /** The memory, as the front-end maps it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Address of the first byte in this process. */
  readonly hostAddress: number;
  readonly #memfd: OwnedFd;
  readonly #mapping: Mapping;

  private constructor(
    guestAddress: number,
    size: number,
    options: SharedRegionOptions,
  ) {
    this.guestAddress = guestAddress;
    this.size = size;
    this.userAddress = options.userAddress ?? guestAddress + USER_OFFSET;
    this.fileOffset = options.fileOffset ?? 0;
    this.#memfd = createMemfd("vhost-test", this.fileOffset + size, {
      seals: options.seals,
      hugetlb: options.hugetlb,
    });
    this.#mapping = mapFile(this.#memfd.fd, { offset: this.fileOffset, size });
    this.hostAddress = this.#mapping.address;
    this.bytes = new Uint8Array(this.#mapping.buffer);
  }

  /** Makes zero-filled memory. */
  static create(
    guestAddress: number,
    size: number,
    options: SharedRegionOptions = {},
  ): SharedRegion {
    return new SharedRegion(guestAddress, size, options);
  }

  /** Number of the memfd; it stays owned by this object. */
  get fd(): number {
    return this.#memfd.fd;
  }

  /** The region as messages describe it. */
  get description(): RegionDescription {
    return {
      guestAddress: this.guestAddress,
      size: this.size,
      userAddress: this.userAddress,
      mmapOffset: this.fileOffset,
    };
  }

  /** Unmaps the memory and closes the memfd. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#memfd.close();
  }
}
