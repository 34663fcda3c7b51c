/**
 * A guest's memory for tests of data planes: shared, mapped, and seen by a driver.
 *
 * @module
 */

import type { OwnedFd } from "../../../sys/fd.ts";
import { createMemfd } from "../../../sys/memfd.ts";
import { mapFile, type Mapping } from "../../../sys/mapping.ts";
import type { MappedRegion } from "../../../vhost/data_plane.ts";
import { FakeDriver, FakeMemory } from "../../../virtqueue/testing/driver.ts";

/** Guest physical address of its first byte. */
export const GUEST_ADDRESS = 0x10_0000;
/** Its length in bytes. */
export const GUEST_SIZE = 0x1_0000;

/** One region of a guest's memory. */
export class PlaneMemory implements Disposable {
  /** What a data plane is told of it. */
  readonly region: MappedRegion;
  readonly #memfd: OwnedFd;
  readonly #mapping: Mapping;
  readonly #driver: FakeMemory;

  /** @param fileOffset where it starts in its file, in bytes: a multiple of 4096 */
  constructor(fileOffset = 0) {
    this.#memfd = createMemfd("plane", fileOffset + GUEST_SIZE);
    this.#mapping = mapFile(this.#memfd.fd, {
      offset: fileOffset,
      size: GUEST_SIZE,
    });
    this.region = {
      guestAddress: GUEST_ADDRESS,
      size: GUEST_SIZE,
      hostAddress: this.#mapping.address,
      userAddress: 0,
      fd: this.#memfd.fd,
      fileOffset,
      pageSize: 4096,
    };
    const bytes = new Uint8Array(this.#mapping.buffer);
    this.#driver = new FakeMemory([{ guestAddress: GUEST_ADDRESS, bytes }]);
  }

  /** A driver with a ring of its own in this memory. */
  driver(size = 8): FakeDriver {
    return new FakeDriver(this.#driver, { size });
  }

  [Symbol.dispose](): void {
    this.#memfd.close();
    this.#mapping.unmap();
  }
}
