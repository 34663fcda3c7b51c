/**
 * What happens to virtio_balloon(4).
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { PAGE_SIZE } from "../freebsd/kernel.ts";
import type { Step } from "../step.ts";
import { PAGES_PER_REQUEST } from "./driver.ts";
import { MEMORY, type VtballoonMachine } from "./machine.ts";

type BalloonStep = Step<VtballoonMachine>;

const MIB = 2 ** 20;
const THREAD = "balloon/virtio_balloon.c vtballoon_thread, vtballoon_sleep, " +
  "vtballoon_desired_size";
const SEND = "vtballoon_send_page_frames; virtqueue.c virtqueue_enqueue, " +
  "virtqueue_notify, virtqueue_dequeue";

/** Requests that so many pages take. */
function requestsFor(pages: number): number {
  return Math.ceil(pages / PAGES_PER_REQUEST);
}

/** Nothing is in the balloon of a driver that started anew. */
async function assertEmpty(machine: VtballoonMachine): Promise<void> {
  const { device } = await machine.status();
  assertEquals([device.actual, device.reclaimed], [0, 0]);
}

/** The driver attaches: two queues, and at most one feature. */
export function attach(dmesg: readonly string[]): BalloonStep {
  return {
    what: "attaches with two queues, and has no page in the balloon",
    source: ({ bus }) =>
      `${bus.functionName("attach")}; balloon/virtio_balloon.c ` +
      "vtballoon_attach, vtballoon_negotiate_features, " +
      "vtballoon_alloc_virtqueues",
    async run(machine): Promise<void> {
      const mark = machine.dmesg.lines.length;
      assertEquals(await machine.boot(), 0);
      assertEquals(machine.dmesg.since(mark), dmesg);
      const { driver } = machine;
      assertEquals(driver.modern, machine.attachment.modern);
      await driver.thread();
      assertEquals([driver.desired, driver.current, driver.requests], [
        0,
        0,
        0,
      ]);
      // A legacy device starts with the driver's first notification or with
      // DRIVER_OK, whatever comes first.
      const starts = machine.device.conversation?.starts ?? ["driver-ok"];
      assertEquals(starts, ["driver-ok"]);
      await machine.check();
    },
  };
}

/** The host wants memory. */
export const inflate: BalloonStep = {
  what: "inflates in requests of 256 pages, one at a time",
  source: `balloon/virtio_balloon.c vtballoon_config_change; ${THREAD}, ` +
    `vtballoon_inflate, ${SEND}; vtballoon_update_size`,
  async run(machine): Promise<void> {
    const { driver } = machine;
    const before = machine.allocated;
    let most = 0;
    driver.onRequest = () => {
      const { enqueued, dequeued } = driver.inflateQueue;
      most = Math.max(most, enqueued - dequeued);
      assertEquals(machine.allocated, before - driver.current * PAGE_SIZE);
    };
    const target = await machine.setBalloon(MEMORY / 2);
    await machine.bus.sleepConfigChange();
    driver.onRequest = () => {};
    assertEquals([driver.current, target], [target, MEMORY / 2 / PAGE_SIZE]);
    assertEquals(driver.requests, requestsFor(target));
    assertEquals(most, 0, "nothing is in flight after an answer");
    assertEquals(machine.allocated, before - MEMORY / 2);
    const { device } = await machine.status();
    assertEquals(device.progress, 1);
    await machine.check();
  },
};

/** Interrupts stay off under MSI-X, and come all the same. */
export const interrupts: BalloonStep = {
  what: "waits for interrupts that it turned off and never turns on again",
  source: ({ bus }) =>
    "balloon/virtio_balloon.c vtballoon_vq_intr; virtqueue.c " +
    `virtqueue_intr_filter, virtqueue_disable_intr; ${
      bus.functionName("vq_intr_filter")
    }`,
  run(machine): Promise<void> {
    const { inflateQueue, requests } = machine.driver;
    assert(requests > 1, "one request would prove nothing");
    const msix = machine.attachment.interrupts === "msix";
    assertEquals(inflateQueue.interruptsEnabled, !msix);
    return Promise.resolve();
  },
};

/** The host gives memory back, a part of it. */
export const deflate: BalloonStep = {
  what: "deflates, and tells the host before it uses the pages",
  source: `balloon/virtio_balloon.c ${THREAD}, vtballoon_deflate, ${SEND}; ` +
    "vtballoon_free_page, vtballoon_update_size",
  async run(machine): Promise<void> {
    const { driver, memory } = machine;
    const had = driver.current, free = memory.free;
    const target = await machine.setBalloon(MEMORY / 2 - 10 * MIB);
    await machine.bus.sleepConfigChange();
    assertEquals(had - target, 10 * MIB / PAGE_SIZE);
    assertEquals([driver.current, memory.free], [target, free + 10 * MIB]);
    // What came back is memory like any other.
    const data = new Uint8Array(8 * MIB).fill(0x77);
    using buffer = memory.buffer(data.length, "contiguous");
    buffer.write(data);
    const moved = await machine.setBalloon(MEMORY / 2 - 9 * MIB);
    await machine.bus.sleepConfigChange();
    assertEquals(driver.current, moved);
    assertEquals(buffer.read(), data);
    buffer.checkSurroundings();
    await machine.check();
  },
};

/** Targets that are no multiple of a request, and a change in the middle. */
export const odd: BalloonStep = {
  what: "follows a target that changes while it moves, to the page",
  source: `balloon/virtio_balloon.c ${THREAD}`,
  async run(machine): Promise<void> {
    const { driver, device } = machine;
    for (const pages of [1, 255, 256, 257, 1000, 3, 0]) {
      await machine.setBalloon(pages * PAGE_SIZE);
      await machine.bus.sleepConfigChange();
      assertEquals(driver.current, pages);
      await machine.check();
    }
    await machine.setBalloon(12 * MIB);
    await device.waitConfigInterrupt();
    await driver.thread(2);
    assertEquals(driver.current, 2 * PAGES_PER_REQUEST);
    await machine.setBalloon(MIB);
    await machine.bus.sleepConfigChange();
    assertEquals(driver.current, MIB / PAGE_SIZE);
    await machine.check();
  },
};

/** There is less memory than is asked for. */
export const lowMemory: BalloonStep = {
  what: "stops when memory is short, and goes on when there is some",
  source: `balloon/virtio_balloon.c ${THREAD}, vtballoon_alloc_page, ` +
    "VTBALLOON_LOWMEM_TIMEOUT",
  async run(machine): Promise<void> {
    const { driver } = machine;
    const target = await machine.setBalloon(MEMORY - MIB);
    await machine.bus.sleepConfigChange();
    assert(driver.current < target, "there was memory enough");
    const { device } = await machine.status();
    assert(device.progress < 1);
    await machine.check();
    const had = driver.current;
    machine.programs.get(0)![Symbol.dispose]();
    machine.programs.delete(0);
    await driver.thread(); // after the timeout
    assert(driver.current > had);
    assertEquals(driver.requests > 0, true);
    const all = await machine.setBalloon(0);
    await machine.bus.sleepConfigChange();
    assertEquals([driver.current, all], [0, 0]);
  },
};

/** `kldunload virtio_balloon` while it is inflated, then `kldload`. */
export const unloadAndLoad: BalloonStep = {
  what: "is unloaded while inflated: it takes all pages back, then resets",
  source: ({ bus }) =>
    "balloon/virtio_balloon.c vtballoon_detach, vtballoon_pop, " +
    `vtballoon_stop; ${bus.functionName("child_detached")}`,
  async run(machine): Promise<void> {
    const { bus, memory } = machine;
    await machine.setBalloon(20 * MIB);
    await bus.sleepConfigChange();
    const { current } = machine.driver, free = memory.free;
    assert(current > 0);
    await bus.detachChild();
    assert(memory.free >= free + current * PAGE_SIZE);
    const { device, session } = await machine.status();
    assertEquals(device.reclaimed, 0);
    assertEquals(session?.rings.some(({ running }) => running), false);
    machine.driver = machine.newDriver();
    assertEquals(await bus.attachChild(machine.driver), 0);
    assertEquals((await machine.status()).device.actual, 0);
    await machine.driver.thread();
    assertEquals(machine.driver.current, current, "the target is what it was");
    await machine.check();
  },
};

/** `shutdown -r` while it is inflated: the driver has no shutdown method. */
export const reboot: BalloonStep = {
  what: "reboots while inflated, and inflates again",
  source: ({ bus }) => `${bus.functionName("shutdown")}; vtballoon_attach`,
  async run(machine): Promise<void> {
    const { current } = machine.driver;
    assert(current > 0);
    await machine.bus.shutdown();
    await machine.device.machineReset();
    machine.powerOn();
    assertEquals(machine.allocated, MEMORY, "all memory is there again");
    assertEquals(await machine.boot(), 0);
    await assertEmpty(machine);
    await machine.driver.thread();
    assertEquals(machine.driver.current, current);
    await machine.check();
  },
};

/** A reset by the machine between two requests. */
export const crash: BalloonStep = {
  what: "is reset while it inflates",
  source: "no function: the kernel is not asked",
  async run(machine): Promise<void> {
    await machine.setBalloon(MEMORY * 3 / 4);
    await machine.device.waitConfigInterrupt();
    await machine.driver.thread(3);
    await machine.device.machineReset();
    machine.bus.forget();
    machine.powerOn();
    assertEquals(await machine.boot(), 0);
    await assertEmpty(machine);
    await machine.setBalloon(MEMORY / 4);
    await machine.bus.sleepConfigChange();
    assertEquals(machine.driver.current, MEMORY / 4 / PAGE_SIZE);
    await machine.check();
  },
};

/** The monitor's `stop` and `cont`. */
export const pauseAndContinue: BalloonStep = {
  what: "is paused: rings stop and go on where they stopped",
  source: "no function: the kernel does not notice",
  async run(machine): Promise<void> {
    const { device, driver } = machine;
    for (const bytes of [MEMORY / 2, MEMORY / 4]) {
      await device.vmStop();
      const { usedIndex } = driver.inflateQueue;
      assertEquals(device.conversation?.stoppedAt(0) ?? usedIndex, usedIndex);
      await device.vmContinue();
      await machine.check();
      await machine.setBalloon(bytes);
      await machine.bus.sleepConfigChange();
      await machine.check();
    }
  },
};

/** What must be true when all is done. */
export const healthy: BalloonStep = {
  what: "the server saw nothing wrong",
  source: "virtqueue.c VQASSERT: a kernel with INVARIANTS did not panic",
  async run(machine): Promise<void> {
    const { session, rings, device } = await machine.status();
    assertEquals(
      [session?.refused, session?.ignored, session?.lastError],
      [0, 0, null],
    );
    for (const { badChains, broken, lastError } of rings) {
      assertEquals([badChains, broken, lastError], [0, null, null]);
    }
    const { badPages, refused, errors } = device.requests;
    assertEquals([badPages, refused, errors], [0, {}, {}]);
  },
};
