/**
 * What else happens to virtio_blk(4): cache modes, dumps, suspension, resizing.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Step } from "../step.ts";
import type { Bio } from "./disk.ts";
import { errorOf, pattern, type VtblkMachine } from "./machine.ts";

type BlkStep = Step<VtblkMachine>;

const KIB = 1024, MIB = 1024 * KIB;

/** `sysctl dev.vtblk.0.writecache_mode`. */
export const writeCacheMode: BlkStep = {
  what: "switches the write cache off and on",
  source: "block/virtio_blk.c vtblk_write_cache_sysctl, vtblk_set_write_cache",
  async run(machine): Promise<void> {
    const { driver } = machine;
    const durable = async (): Promise<number> => {
      const before = (await machine.status()).device.requests.durableWrites;
      assertEquals(await machine.write(2 * MIB, pattern(1, 4 * KIB)), 0);
      const { device } = await machine.status();
      return device.requests.durableWrites - before;
    };
    assertEquals(await durable(), 0);
    assertEquals(await driver.setWriteCache(0), 0);
    assertEquals((await machine.status()).device.cache, "writethrough");
    assertEquals(await durable(), 1, "a write is durable when it completes");
    assertEquals(await driver.setWriteCache(1), 0);
    assertEquals((await machine.status()).device.cache, "writeback");
    assertEquals(await durable(), 0);
  },
};

/** A kernel dump, started while I/O is in flight. */
export const dump: BlkStep = {
  what: "dumps core by polling, with I/O in flight and interrupts ignored",
  source:
    "block/virtio_blk.c vtblk_dump, vtblk_dump_quiesce, vtblk_dump_write, " +
    "vtblk_dump_complete; virtqueue.c virtqueue_poll",
  async run(machine): Promise<void> {
    const { disk, driver, memory } = machine;
    assert(disk.canDump);
    const buffers = Array.from({ length: 20 }, () => memory.buffer(16 * KIB));
    const bios = buffers.flatMap((data, i) =>
      disk.start({ command: "read", offset: i * MIB, data })
    );
    const size = Math.min(disk.maxSize, 64 * KIB);
    const at = disk.mediaSize - 4 * MIB, pieces = 8;
    for (let i = 0; i < pieces; i++) {
      using data = machine.buffer(pattern(30 + i, size), "contiguous");
      assertEquals(await driver.dump(data, at + i * size), 0);
    }
    const before = (await machine.status()).device.requests.flushes;
    assertEquals(await driver.dump(null, 0), 0);
    assertEquals(
      (await machine.status()).device.requests.flushes - before,
      1,
      "the dump ends with a flush",
    );
    assert(bios.every((bio) => bio.done), "I/O in flight was finished first");
    assertEquals(errorOf(bios), 0);
    for (let i = 0; i < pieces; i++) {
      assertEquals(
        await machine.hostRead(at + i * size, size),
        pattern(30 + i, size),
      );
    }
    for (const buffer of buffers) buffer[Symbol.dispose]();
    // Live dumps end, and interrupts count again.
    assertEquals(await machine.read(at, size), pattern(30, size));
  },
};

/** `device_suspend` and `device_resume`. */
export const suspendAndResume: BlkStep = {
  what: "is suspended: the ring runs dry, I/O waits, nothing is reset",
  source: "block/virtio_blk.c vtblk_suspend, vtblk_quiesce, vtblk_resume",
  async run(machine): Promise<void> {
    const { disk, driver, device, memory } = machine;
    const { resets, starts } = device.conversation ?? { resets: 0, starts: [] };
    const started = starts.length;
    const buffers = Array.from({ length: 60 }, () => memory.buffer(16 * KIB));
    const submit = (): Bio[] =>
      buffers.flatMap((data, i) =>
        disk.start({ command: "read", offset: i * MIB, data })
      );
    const before = submit();
    await driver.suspend();
    assert(before.every((bio) => bio.done) || driver.waiting > 0);
    assert(driver.queue.empty);
    const during = submit();
    assert(driver.queue.empty, "I/O was started while suspended");
    assert(driver.waiting >= during.length);
    driver.resume();
    await driver.wait([...before, ...during]);
    assertEquals(errorOf([...before, ...during]), 0);
    if (device.conversation !== null) {
      assertEquals(device.conversation.resets, resets);
      assertEquals(device.conversation.starts.length, started);
    }
    for (const buffer of buffers) buffer[Symbol.dispose]();
  },
};

/** The monitor's `stop` and `cont`: QEMU takes the rings and gives them back. */
export const pauseAndContinue: BlkStep = {
  what: "is paused under I/O: rings stop drained and go on where they stopped",
  source: "no function: the kernel does not notice",
  async run(machine): Promise<void> {
    const { disk, driver, device, memory } = machine, { queue } = driver;
    for (let round = 0; round < 3; round++) {
      const buffers = Array.from({ length: 200 }, () => memory.buffer(8 * KIB));
      const bios = buffers.flatMap((data, i) =>
        disk.start({ command: "read", offset: (i + 1) * MIB, data })
      );
      await device.vmStop();
      const position = queue.usedIndex;
      const stopped = device.conversation?.stoppedAt(0) ?? position;
      assertEquals(stopped, position, "nothing was in flight");
      await machine.status();
      assertEquals(queue.usedIndex, position, "nothing happens when stopped");
      await device.vmContinue();
      await driver.wait(bios);
      assertEquals(errorOf(bios), 0);
      for (const [i, buffer] of buffers.entries()) {
        const expected = await machine.hostRead((i + 1) * MIB, 8 * KIB);
        assertEquals(buffer.read(), expected, `bio ${i}`);
        buffer[Symbol.dispose]();
      }
      assertEquals(queue.dequeued, queue.enqueued);
    }
  },
};

/** The image grows. */
export const resize: BlkStep = {
  what: "finds the disk larger after a configuration change",
  source: "block/virtio_blk.c vtblk_config_change, vtblk_resize_disk; " +
    "pci/virtio_pci.c vtpci_config_intr",
  async run(machine): Promise<void> {
    const { disk, dmesg } = machine;
    const old = disk.mediaSize, grown = old + 512 * MIB;
    await Deno.truncate(machine.image, grown);
    const mark = dmesg.lines.length;
    await machine.server.command("resize");
    await machine.bus.sleepConfigChange();
    assertEquals(disk.mediaSize, grown);
    assertEquals(dmesg.since(mark), [
      `vtblk0: resized to ${grown / MIB}MB ` +
      `(${grown / disk.sectorSize} ${disk.sectorSize} byte sectors)`,
    ]);
    const data = pattern(60, 64 * KIB), at = grown - data.length;
    assertEquals(await machine.write(at, data), 0);
    assertEquals(await machine.hostRead(at, data.length), data);
    assertEquals(await machine.read(at, data.length), data);
  },
};
