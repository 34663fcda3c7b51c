/**
 * How virtio_blk(4) comes and goes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { FreeBsdErrno } from "../freebsd/kernel.ts";
import type { Step } from "../step.ts";
import { errorOf, pattern, SERIAL, type VtblkMachine } from "./machine.ts";

type BlkStep = Step<VtblkMachine>;

const KIB = 1024, MIB = 1024 * KIB;

/** What a verbose boot prints, and what the disk is then. */
export interface AttachExpectation {
  /** All lines, in order. */
  readonly dmesg: readonly string[];
  /** Fields of `struct disk`. */
  readonly disk: {
    readonly mediaSize: number;
    readonly sectorSize: number;
    readonly maxSize: number;
    readonly deleteMaxSize: number;
    readonly firmwareHeads: number;
    readonly firmwareSectors: number;
    readonly stripeSize: number;
    readonly stripeOffset: number;
  };
}

/** The driver attaches and finds the disk that is served. */
export function attach(expected: AttachExpectation): BlkStep {
  return {
    what: "attaches, negotiates and identifies the disk",
    source: ({ bus, profile }) =>
      [
        bus.functionName("attach"),
        bus.functionName("probe_and_attach_child"),
        `block/virtio_blk.c vtblk_attach, vtblk_ident`,
      ].join("; ") +
      (profile.identify === "attach" ? "" : ", vtblk_attach_completed"),
    async run(machine): Promise<void> {
      const mark = machine.dmesg.lines.length;
      assertEquals(await machine.boot(), 0);
      assertEquals(machine.dmesg.since(mark), expected.dmesg);
      const { disk } = machine;
      assertEquals(disk.ident, SERIAL);
      const { mediaSize, sectorSize, maxSize, deleteMaxSize } = disk;
      const { firmwareHeads, firmwareSectors, stripeSize, stripeOffset } = disk;
      assertEquals({
        mediaSize,
        sectorSize,
        maxSize,
        deleteMaxSize,
        firmwareHeads,
        firmwareSectors,
        stripeSize,
        stripeOffset,
      }, expected.disk);
      assertEquals(machine.driver.writeCache, 1, "writeback");
    },
  };
}

/** The same, when how it looks is known. */
export const attachAgain: BlkStep = {
  what: "attaches again after a reset: ring indices start at 0",
  source: ({ bus }) =>
    `${bus.functionName("attach")}; block/virtio_blk.c vtblk_attach`,
  async run(machine): Promise<void> {
    assertEquals(await machine.boot(), 0);
    assertEquals(machine.disk.ident, SERIAL);
    const { queue } = machine.driver;
    assertEquals([queue.availableIndex, queue.usedIndex], [1, 1]);
  },
};

/** What the first request needed of the device. */
export const identified: BlkStep = {
  what: "the identification was answered to a polling driver",
  source: "block/virtio_blk.c vtblk_poll_request; virtqueue.c virtqueue_poll",
  async run(machine): Promise<void> {
    const { device, driver, bus, profile, attachment } = machine;
    assertEquals([driver.queue.enqueued, driver.queue.dequeued], [1, 1]);
    const beforeDriverOk = profile.identify === "attach";
    // A legacy driver's notification starts the device, if it comes first.
    const starts = device.conversation?.starts;
    if (starts) assertEquals(starts, [beforeDriverOk ? "kick" : "driver-ok"]);
    await machine.status();
    if (beforeDriverOk) {
      assertEquals(await device.takeInterrupt(0), false, "interrupts were off");
      return;
    }
    assert(
      await bus.serveInterrupt(driver.queue),
      "no interrupt although interrupts were on",
    );
    const stray = attachment.interrupts === "msix" ? 1 : 0;
    assertEquals(bus.strayInterrupts, stray, "polling left nothing to do");
    assert(driver.queue.interruptsEnabled);
  },
};

/** `kldunload virtio_blk` with I/O on its way, then `kldload`. */
export const unloadAndLoad: BlkStep = {
  what: "is unloaded under I/O and loaded again",
  source: ({ bus }) =>
    "block/virtio_blk.c vtblk_detach, vtblk_stop, vtblk_drain; " +
    `${bus.functionName("child_detached")}; ` +
    `pci/virtio_pci.c vtpci_free_virtqueues; ${
      bus.functionName("driver_added")
    }`,
  async run(machine): Promise<void> {
    const { device, disk, bus } = machine;
    const data = pattern(1, 16 * KIB);
    await machine.hostWrite(MIB, data);
    const buffers = Array.from(
      { length: 40 },
      () => machine.memory.buffer(16 * KIB),
    );
    const bios = buffers.map((buffer) =>
      disk.start({ command: "read", offset: MIB, data: buffer })
    );
    const { conversation } = device, { queue } = machine.driver;
    const resets = conversation?.resets ?? 0;
    await bus.detachChild();
    bios.forEach((parts, i) => {
      const error = errorOf(parts);
      if (error === 0) assertEquals(buffers[i].read(), data);
      else assertEquals(error, FreeBsdErrno.ENXIO);
    });
    if (conversation !== null) {
      // The driver's own reset, the bus's, and a legacy queue address of 0.
      assertEquals(conversation.resets - resets, bus.modern ? 2 : 3);
      assertEquals(conversation.stoppedAt(0), queue.dequeued & 0xffff);
    }
    const acknowledged = machine.release.acknowledgesAfterDetach ? 1 : 0;
    assertEquals(await device.readStatus(), acknowledged);
    const { session } = await machine.status();
    assertEquals(session?.rings.map((ring) => ring.running), [false]);
    for (const buffer of buffers) buffer[Symbol.dispose]();

    machine.driver = machine.newDriver();
    assertEquals(await bus.attachChild(machine.driver), 0);
    assertEquals(machine.disk.ident, SERIAL);
    assertEquals(await machine.read(MIB, data.length), data);
  },
};

/** `shutdown -r`: the device is reset in order, then by the machine. */
export const reboot: BlkStep = {
  what: "reboots in order",
  source: ({ bus }) =>
    `${bus.functionName("shutdown")}; block/virtio_blk.c vtblk_shutdown`,
  async run(machine): Promise<void> {
    assertEquals(await machine.io({ command: "flush" }), 0);
    const { enqueued } = machine.driver.queue;
    await machine.bus.shutdown();
    const stopped = machine.device.conversation?.stoppedAt(0);
    if (stopped !== undefined) assertEquals(stopped, enqueued & 0xffff);
    await machine.device.machineReset();
    machine.powerOn();
  },
};

/** A reset by the machine in the middle of I/O: a crash, or a watchdog. */
export const crash: BlkStep = {
  what: "is reset under I/O: afterwards its memory is left alone",
  source: "no function: the kernel is not asked",
  async run(machine): Promise<void> {
    const { device, disk, driver, memory } = machine;
    const buffers = Array.from(
      { length: 100 },
      (_, i) => memory.buffer(32 * KIB, i % 2 === 0 ? "scattered" : "pairs"),
    );
    for (const [i, data] of buffers.entries()) {
      disk.start({ command: "read", offset: i * MIB, data });
    }
    await device.machineReset();
    const { queue } = driver;
    const stopped = device.conversation?.stoppedAt(0);
    if (stopped !== undefined) {
      assertEquals(stopped, queue.usedIndex, "the ring was drained");
    }
    for (const buffer of buffers) buffer.fill(0x5a);
    const used = memory.ram.bytes(queue.usedRing, 4 + 8 * queue.size);
    used.fill(0);
    await machine.status();
    assert(used.every((byte) => byte === 0), "the used ring was written");
    for (const buffer of buffers) {
      assert(buffer.read().every((byte) => byte === 0x5a), "late data arrived");
      buffer.checkSurroundings();
    }
    machine.bus.forget();
    machine.powerOn();
  },
};

/** What must be true when all is done. */
export const healthy: BlkStep = {
  what: "the server saw nothing wrong",
  source: "virtqueue.c VQASSERT: a kernel with INVARIANTS did not panic",
  async run(machine): Promise<void> {
    const status = await machine.status();
    const { session, rings, device } = status;
    assertEquals(
      [session?.refused, session?.ignored, session?.lastError],
      [0, 0, null],
    );
    for (const ring of rings) {
      assertEquals([ring.badChains, ring.broken, ring.lastError], [
        0,
        null,
        null,
      ]);
    }
    assertEquals(device.requests.refused, {});
  },
};
