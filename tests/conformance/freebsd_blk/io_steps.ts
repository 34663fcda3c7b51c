/**
 * The I/O of virtio_blk(4): what file systems, GEOM and `physio(9)` send.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { FreeBsdErrno, PAGE_SIZE } from "../freebsd/kernel.ts";
import type { KernelBuffer } from "../freebsd/memory.ts";
import type { Step } from "../step.ts";
import type { Bio, BioRequest } from "./disk.ts";
import { errorOf, pattern, type VtblkMachine } from "./machine.ts";

type BlkStep = Step<VtblkMachine>;

const KIB = 1024, MIB = 1024 * KIB, GIB = 1024 * MIB;

/** Partition tables and labels are looked for as soon as there is a disk. */
export const taste: BlkStep = {
  what: "GEOM tastes the disk: first and last sectors, and some between",
  source: "block/virtio_blk.c vtblk_strategy, vtblk_startio, vtblk_vq_intr",
  async run(machine): Promise<void> {
    const { sectorSize, mediaSize } = machine.disk;
    const places = [0, sectorSize, 8 * KIB, 64 * KIB, mediaSize - sectorSize];
    for (const [i, offset] of places.entries()) {
      const data = pattern(100 + i, sectorSize);
      await machine.hostWrite(offset, data);
      assertEquals(await machine.read(offset, sectorSize), data);
    }
  },
};

/** UFS blocks and fragments, aligned and not, of every size that fits. */
export const readAndWrite: BlkStep = {
  what: "reads and writes, from a sector to the largest transfer",
  source: "block/virtio_blk.c vtblk_request_bio, vtblk_request_execute, " +
    "vtblk_queue_completed",
  async run(machine): Promise<void> {
    const { sectorSize, maxSize } = machine.disk;
    const sizes = [sectorSize, 4 * KIB, 32 * KIB, 64 * KIB, maxSize];
    let offset = 10 * MIB, seed = 200;
    for (const size of sizes) {
      for (const placement of ["scattered", "pairs", "contiguous"] as const) {
        const data = pattern(seed++, size);
        assertEquals(await machine.write(offset, data, placement), 0);
        assertEquals(await machine.hostRead(offset, size), data);
        assertEquals(await machine.read(offset, size, placement), data);
        offset += MIB;
      }
    }
  },
};

/** User memory of `dd` begins anywhere: segments are no whole sectors. */
export const unalignedBuffers: BlkStep = {
  what: "wires user memory that begins anywhere, up to the largest transfer",
  source:
    "sys/kern/kern_physio.c physio; block/virtio_blk.c vtblk_alloc_disk: d_maxsize " +
    "leaves a segment for it",
  async run(machine): Promise<void> {
    const { maxSize, sectorSize } = machine.disk;
    const shapes = [[sectorSize, 4095], [64 * KIB, 1], [maxSize, 100]];
    for (const [i, [size, pageOffset]] of shapes.entries()) {
      const offset = (40 + i) * MIB, data = pattern(300 + i, size);
      assertEquals(
        await machine.write(offset, data, "scattered", pageOffset),
        0,
      );
      assertEquals(await machine.hostRead(offset, size), data);
      assertEquals(
        await machine.read(offset, size, "scattered", pageOffset),
        data,
      );
    }
  },
};

/** One I/O that is more than `d_maxsize`. */
export const split: BlkStep = {
  what: "has an I/O of 3 MiB split at the largest transfer",
  source: "sys/geom/geom_disk.c g_disk_start, g_disk_limit",
  async run(machine): Promise<void> {
    const data = pattern(400, 3 * MIB);
    using buffer = machine.buffer(data);
    const parts = machine.disk.start({
      command: "write",
      offset: 50 * MIB,
      data: buffer,
    });
    assertEquals(parts.length, Math.ceil(3 * MIB / machine.disk.maxSize));
    await machine.driver.wait(parts);
    assertEquals(errorOf(parts), 0);
    assertEquals(await machine.hostRead(50 * MIB, data.length), data);
  },
};

/** More I/O than the ring holds. */
export const fullRing: BlkStep = {
  what: "fills the ring to the last descriptor, and goes on as it empties",
  source: "block/virtio_blk.c vtblk_startio; virtqueue.c virtqueue_enqueue, " +
    "vq_ring_free_chain",
  async run(machine): Promise<void> {
    const { disk, driver, memory } = machine, { queue } = driver;
    const base = 64 * MIB, size = 16 * KIB, count = 3 * queue.size;
    const writes: Bio[] = [], buffers: KernelBuffer[] = [];
    for (let i = 0; i < count; i++) {
      const buffer = machine.buffer(
        pattern(1000 + i, size),
        i % 3 === 0 ? "pairs" : "scattered",
      );
      buffers.push(buffer);
      // Neighbours on the disk are far apart in time.
      const offset = base + (i * 37 % count) * size;
      writes.push(...disk.start({ command: "write", offset, data: buffer }));
    }
    assert(driver.waiting > 0, "the ring took everything");
    const perRequest = queue.indirect ? 1 : 3;
    assert(queue.freeCount < perRequest + size / PAGE_SIZE);
    await driver.wait(writes);
    assertEquals(errorOf(writes), 0);
    for (const buffer of buffers.splice(0)) buffer[Symbol.dispose]();

    const reads: Bio[] = [];
    for (let i = 0; i < count; i++) {
      const data = memory.buffer(
        size,
        i % 2 === 0 ? "scattered" : "contiguous",
      );
      buffers.push(data);
      const offset = base + (i * 37 % count) * size;
      reads.push(...disk.start({ command: "read", offset, data }));
    }
    await driver.wait(reads);
    assertEquals(errorOf(reads), 0);
    for (const [i, buffer] of buffers.entries()) {
      assertEquals(buffer.read(), pattern(1000 + i, size), `block ${i}`);
      buffer.checkSurroundings();
      buffer[Symbol.dispose]();
    }
    assert(queue.empty);
    assertEquals(queue.dequeued, queue.enqueued);
  },
};

/** `BIO_FLUSH`. */
export const flush: BlkStep = {
  what: "flushes the cache",
  source: "block/virtio_blk.c vtblk_request_bio: VIRTIO_BLK_T_FLUSH",
  async run(machine): Promise<void> {
    const before = (await machine.status()).device.requests.flushes;
    assertEquals(await machine.write(MIB, pattern(500, 8 * KIB)), 0);
    assertEquals(await machine.io({ command: "flush" }), 0);
    const after = (await machine.status()).device.requests.flushes;
    assertEquals(after - before, 1);
  },
};

/** `BIO_ORDERED` without barriers in the device. */
export const ordered: BlkStep = {
  what: "holds everything back around an ordered request",
  source:
    "block/virtio_blk.c vtblk_request_execute: VTBLK_FLAG_BARRIER is not set, " +
    "vtblk_req_ordered",
  async run(machine): Promise<void> {
    const { disk, driver } = machine, at = 100 * MIB;
    // The driver knows barriers in legacy mode; no back-end of QEMU has them.
    assert(!machine.bus.withFeature(0), "HostBarrier was negotiated");
    const bios: Bio[] = [], buffers: KernelBuffer[] = [];
    // Every version of the block is written; the last one is to stay.
    for (let i = 0; i < 30; i++) {
      const data = machine.buffer(pattern(600 + i, 4 * KIB));
      buffers.push(data);
      const request: BioRequest = {
        command: "write",
        offset: at,
        data,
        ordered: i % 3 === 2,
      };
      bios.push(...disk.start(i % 5 === 4 ? { command: "flush" } : request));
      if (i % 5 !== 4) continue;
      bios.push(...disk.start({ ...request, ordered: true }));
    }
    await driver.wait(bios);
    assertEquals(errorOf(bios), 0);
    assertEquals(
      await machine.hostRead(at, 4 * KIB),
      pattern(600 + 29, 4 * KIB),
    );
    for (const buffer of buffers) buffer[Symbol.dispose]();
  },
};

/** `BIO_DELETE`: UFS and ZFS trim, `newfs -E`. */
export const deleteRange: BlkStep = {
  what: "deletes a range, split at the largest discard",
  source:
    "block/virtio_blk.c vtblk_strategy, vtblk_request_execute: BIO_DELETE, " +
    "vtblk_bio_done",
  async run(machine): Promise<void> {
    const { disk } = machine, from = 200 * MIB;
    const length = disk.mediaSize - from - MIB;
    await machine.hostWrite(from - MIB, pattern(700, 3 * MIB));
    await machine.hostWrite(from + 3 * GIB, pattern(701, 2 * MIB));
    const request = { command: "delete", offset: from, length } as const;
    if (!machine.profile.discard) {
      assertEquals(await machine.io(request), FreeBsdErrno.EOPNOTSUPP);
      return;
    }
    const before = (await Deno.stat(machine.image)).blocks!;
    const parts = disk.start(request);
    assertEquals(parts.length, Math.ceil(length / disk.deleteMaxSize));
    await machine.driver.wait(parts);
    assertEquals(errorOf(parts), 0);
    const after = (await Deno.stat(machine.image)).blocks!;
    assert(before - after >= 4 * MIB / 512, `${before} to ${after} blocks`);
    const zeroes = new Uint8Array(2 * MIB);
    assertEquals(await machine.hostRead(from, 2 * MIB), zeroes);
    assertEquals(await machine.hostRead(from + 3 * GIB, 2 * MIB), zeroes);
    assertEquals(
      await machine.read(from - MIB, MIB),
      pattern(700, 3 * MIB).subarray(0, MIB),
      "what lies before the range",
    );
    // One sector is as good.
    assertEquals(
      await machine.io({
        command: "delete",
        offset: from - MIB,
        length: disk.sectorSize,
      }),
      0,
    );
  },
};

/** The host takes part of the image away. */
export const hardError: BlkStep = {
  what: "reports a hard error where the image ends, and goes on",
  source:
    "block/virtio_blk.c vtblk_request_error, vtblk_done_completed: disk_err",
  async run(machine): Promise<void> {
    const { mediaSize } = machine.disk;
    await Deno.truncate(machine.image, mediaSize - 64 * MIB);
    using lost = machine.memory.buffer(16 * KIB);
    assertEquals(
      await machine.io({
        command: "read",
        offset: mediaSize - MIB,
        data: lost,
      }),
      FreeBsdErrno.EIO,
    );
    await Deno.truncate(machine.image, mediaSize);
    const data = pattern(800, 16 * KIB);
    assertEquals(await machine.write(mediaSize - MIB, data), 0);
    assertEquals(await machine.read(mediaSize - MIB, data.length), data);
    const { requests } = (await machine.status()).device;
    assertEquals(requests.errors, { EIO: 1 });
  },
};

/** A disk that must not be written. */
export const readOnly: BlkStep = {
  what: "refuses to write a read-only disk, in the driver or before it",
  source: "block/virtio_blk.c vtblk_strategy: VTBLK_FLAG_READONLY; since 13 " +
    "vtblk_alloc_disk: DISKFLAG_WRITE_PROTECT",
  async run(machine): Promise<void> {
    const { disk, profile } = machine, { EROFS, EOPNOTSUPP } = FreeBsdErrno;
    assertEquals(disk.canDump, false);
    if (profile.readOnly === "geom") {
      assertEquals(disk.openForWriting(), EROFS);
      assertEquals(await machine.io({ command: "flush" }), EOPNOTSUPP);
    } else {
      assertEquals(disk.openForWriting(), 0);
      assertEquals(await machine.write(0, pattern(900, 4 * KIB)), EROFS);
      assertEquals(await machine.io({ command: "flush" }), EROFS);
    }
    assertEquals(
      await machine.io({ command: "delete", offset: 0, length: MIB }),
      EOPNOTSUPP,
    );
    assertEquals((await machine.status()).device.requests.refused, {});
  },
};

/** Free-running indices wrap at 2^16. */
export const wrap: BlkStep = {
  what: "goes on where the ring indices wrap",
  source: "virtqueue.c vq_ring_update_avail, virtqueue_dequeue, " +
    "virtqueue_nused",
  async run(machine): Promise<void> {
    const { disk, driver } = machine, { queue } = driver;
    const { sectorSize } = disk;
    const data = pattern(950, sectorSize);
    await machine.hostWrite(5 * MIB, data);
    using buffer = machine.memory.buffer(sectorSize, "contiguous");
    const request = { command: "read", offset: 5 * MIB, data: buffer } as const;
    while (queue.enqueued < 0x1_0000 + 2 * queue.size) {
      const bios: Bio[] = [];
      for (let i = 0; i < 4 * queue.size; i++) {
        bios.push(...disk.start(request));
      }
      await driver.wait(bios);
      assertEquals(errorOf(bios), 0);
    }
    assertEquals(queue.availableIndex, queue.enqueued & 0xffff);
    assertEquals(queue.usedIndex, queue.availableIndex);
    buffer.fill(0);
    assertEquals(await machine.io(request), 0);
    assertEquals(buffer.read(), data);
  },
};
