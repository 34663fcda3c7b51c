/**
 * What vtnet(4) does with its device, and what must come of it.
 *
 * Files are below `sys/dev/virtio` of freebsd-src, branches releng/10.4 to
 * releng/15.1.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  packet,
  partialHeader,
  sumsHold,
  virtioHeader,
} from "../../../backends/net/testing/packets.ts";
import { waitUntil } from "../../support/deadline.ts";
import { VirtioNetPci } from "../qemu/virtio_net_pci.ts";
import type { Step } from "../step.ts";
import { TX_TIMEOUT } from "./driver.ts";
import { NetBit, vtnetProfile } from "./features.ts";
import type { VtnetMachine } from "./machine.ts";

/** A step with a network device. */
export type NetStep = Step<VtnetMachine>;

const PEER = [2, 0, 0, 0, 0, 0x99];

/** A frame from the driver to somebody, `payload` bytes of TCP. */
function frame(
  machine: VtnetMachine,
  payload: number,
  to: readonly number[] = PEER,
): Uint8Array<ArrayBuffer> {
  return packet({ payload, to, from: machine.driver.mac }).bytes;
}

/** Waits until the device has given back all that a pair sent. */
async function served(machine: VtnetMachine): Promise<void> {
  const queue = machine.driver.tx();
  await waitUntil(() => queue.usedIndex === (queue.enqueued & 0xffff), {
    what: "frames to be given back at once",
    interval: 1,
  });
  // Echoes are published in the same turn: what is asked now comes after it.
  await machine.status();
}

/** What the echo makes of it. */
function echoed(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy.set(bytes.subarray(6, 12));
  copy.set(bytes.subarray(0, 6), 6);
  return copy;
}

/** `kldload if_vtnet`: the device is there, its interface is down. */
export const attach: NetStep = {
  what: "attaches",
  source: "network/if_vtnet.c vtnet_attach, vtnet_setup_features, " +
    "vtnet_alloc_virtqueues",
  async run(machine): Promise<void> {
    const { bus, driver } = machine;
    if (!bus.attached) await bus.attach();
    assertEquals(await bus.attachChild(driver), 0);
    const lines = machine.dmesg.lines.filter((line) => line.includes("negot"));
    const control = bus.withFeature(NetBit.CTRL_VQ);
    assertEquals(control, machine.controlQueue || machine.qemuAnswers);
    // vtnet_feature_desc has other words for some since 13.
    const { names: words } = vtnetProfile(machine.bus.release.modernPci);
    const names = ["TxChecksum", "Status"];
    if (control) names.push(words[NetBit.CTRL_VQ], words[NetBit.CTRL_MAC_ADDR]);
    for (const name of names) {
      assert(lines.at(-1)!.includes(name), lines.at(-1));
    }
    assert(!/Tx(?:All)?GSO/.test(lines.at(-1)!), "the old GSO bit was offered");
    const { rings } = await machine.status();
    // QEMU starts the pairs that are used alone: one, until it is told.
    assertEquals(
      rings.length,
      machine.controlQueue ? 2 * driver.maxPairs + 1 : 2,
    );
  },
};

/** `ifconfig vtnet0 up`. */
export const up: NetStep = {
  what: "is brought up: reset, set up anew, commands spun on",
  source: ({ bus }) =>
    "network/if_vtnet.c vtnet_init_locked, vtnet_virtio_reinit, " +
    "vtnet_set_macaddr, vtnet_rx_filter, vtnet_rxq_populate, " +
    `vtnet_exec_ctrl_cmd; ${bus.functionName("reinit")}; virtqueue.c ` +
    "virtqueue_poll",
  async run(machine): Promise<void> {
    const { driver } = machine;
    await driver.init();
    assert(driver.linkActive, "the link is down");
    const { device, rings } = await machine.status();
    assertEquals(
      device.mac,
      driver.mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
    );
    assertEquals(device.filter.vlans, false);
    if (machine.controlQueue) {
      assertEquals(device.filter.promisc, driver.promisc);
      assertEquals(device.filter.multicast, driver.groups.length);
    }
    assertEquals(
      rings.length,
      machine.qemuAnswers
        ? 2 * driver.activePairs
        : 2 * driver.maxPairs + (machine.controlQueue ? 1 : 0),
    );
    if (machine.device instanceof VirtioNetPci) {
      const { commands, filter } = machine.device;
      assert(commands > 0, "no command came");
      assertEquals(filter.toJSON().promisc, driver.promisc);
    }
    assertEquals(device.queuePairs, driver.activePairs);
  },
};

/** `ifconfig vtnet0 down`. */
export const down: NetStep = {
  what: "is brought down: nothing is in flight, memory is left alone",
  source: "network/if_vtnet.c vtnet_stop, vtnet_drain_rxtx_queues",
  async run(machine): Promise<void> {
    const { driver } = machine;
    const used = driver.rx().usedIndex;
    await driver.stop();
    assertEquals(machine.device.stoppedAt(0), used, "buffers were kept");
    const { rings } = await machine.status();
    assertEquals(rings, []);
  },
};

/** Frames of all sizes, one at a time and many at once. */
export const exchange: NetStep = {
  what: "sends frames and receives them",
  source: "network/if_vtnet.c vtnet_txq_encap, vtnet_txq_enqueue_buf, " +
    "vtnet_rx_vq_process, vtnet_rxq_eof",
  async run(machine): Promise<void> {
    const { driver } = machine;
    const none = virtioHeader();
    for (const size of [0, 1, 6, 100, 700, 1446]) {
      const bytes = frame(machine, size);
      assertEquals(driver.start([[bytes, none]]), 1);
      const [received] = await driver.receive(1);
      assertEquals(received.bytes, echoed(bytes));
      assertEquals([...received.header.subarray(0, 10)], new Array(10).fill(0));
    }
    for (let round = 0; round < 12; round++) {
      const burst = Array.from(
        { length: 40 },
        (_, i) => frame(machine, 40 * round + i),
      );
      const offered = burst.map((bytes): [Uint8Array, Uint8Array] => [
        bytes,
        none,
      ]);
      assertEquals(driver.start(offered), 40);
      const received = await driver.receive(40);
      assertEquals(received.map(({ bytes }) => bytes), burst.map(echoed));
    }
    assertEquals(driver.inputErrors, 0);
  },
};

/** Sent frames stay on the ring until somebody has to look. */
export const lazyReaping: NetStep = {
  what: "reaps what was sent when three quarters of the ring are full",
  source: "network/if_vtnet.c vtnet_txq_notify, vtnet_txq_intr_threshold, " +
    "vtnet_txq_below_threshold, vtnet_txq_eof",
  async run(machine): Promise<void> {
    const { driver, bus } = machine;
    const queue = driver.tx();
    driver.txqEof();
    assert(queue.empty, "frames of earlier steps were not given back");
    // A ring is signalled when its call descriptor is set, needed or not.
    await bus.serveInterrupt(queue);
    const none = virtioHeader();
    const bytes = frame(machine, 10);
    let sent = 0;
    // Nobody reaps: encap alone, and the notification that start() would send.
    while (queue.freeCount > queue.size / 4) {
      assert(driver.encap(bytes, none));
      queue.notify();
      sent++;
    }
    await served(machine);
    assertEquals((queue.usedIndex - queue.dequeued) & 0xffff, sent);
    assertEquals(
      await bus.serveInterrupt(queue),
      false,
      "an interrupt that nobody asked for",
    );
    driver.rxqEof();
    // The next one is beyond the threshold: an interrupt is asked for, and
    // what was given back is reaped at once.
    assertEquals(driver.start([[bytes, none]]), 1);
    await served(machine);
    driver.txqEof();
    assert(queue.empty, `${queue.size - queue.freeCount} are not given back`);
    assertEquals(queue.dequeued, queue.enqueued);
    driver.rxqEof();
  },
};

/** The watchdog never fires. */
export const watchdog: NetStep = {
  what: "is not timed out by its watchdog",
  source: "network/if_vtnet.c vtnet_tick, vtnet_watchdog",
  async run(machine): Promise<void> {
    const { driver } = machine;
    driver.start([[frame(machine, 10), virtioHeader()]]);
    assertEquals(driver.watchdogs[0], TX_TIMEOUT);
    await served(machine);
    for (let second = 0; second < 2 * TX_TIMEOUT; second++) {
      assert(driver.tick(), "watchdog timeout on queue 0");
    }
    assertEquals(driver.watchdogs[0], 0);
    driver.rxqEof();
  },
};

/** TSO out, LRO in, checksums left to others. */
export const offloads: NetStep = {
  what: "sends large segments, and receives them whole or cut",
  source: "network/if_vtnet.c vtnet_txq_offload, vtnet_txq_offload_tso, " +
    "vtnet_rxq_merged_eof, vtnet_rxq_input",
  async run(machine): Promise<void> {
    const { driver, bus } = machine;
    const addresses = { to: PEER, from: driver.mac };
    const made = packet({ payload: 20_000, ...addresses });
    const header = partialHeader(made, { gsoType: 1, gsoSize: 1448 });
    assertEquals(driver.start([[made.bytes, header]]), 1);
    if (bus.withFeature(NetBit.GUEST_TSO4)) {
      const [whole] = await driver.receive(1);
      assertEquals(whole.bytes, echoed(made.bytes));
      assertEquals([whole.header[0] & 1, whole.header[1]], [1, 1]);
    } else {
      const segments = await driver.receive(Math.ceil(20_000 / 1448));
      for (const { bytes } of segments) assert(sumsHold(bytes, made));
    }
    const small = packet({ payload: 500, ipv6: true, ...addresses });
    driver.start([[small.bytes, partialHeader(small)]]);
    const [{ bytes, header: got }] = await driver.receive(1);
    // It is left undone, or done.
    assert((got[0] & 1) === 1 || sumsHold(bytes, small));
    const { device } = await machine.status();
    assertEquals(device.frames.badHeaders, {});
  },
};

/** Groups and modes. */
export const filters: NetStep = {
  what: "receives what it asked for",
  source: "network/if_vtnet.c vtnet_ioctl_ifflags, vtnet_ioctl_multi, " +
    "vtnet_rx_filter_mac, vtnet_set_promisc, vtnet_set_allmulti",
  async run(machine): Promise<void> {
    const { driver } = machine;
    const group = [0x33, 0x33, 0, 0, 0, 1], other = [0x33, 0x33, 0, 0, 0, 2];
    const stranger = [2, 0, 0, 0, 0, 0x77];
    // Echoes go to whom a frame says that it is from.
    const hears = async (from: readonly number[]): Promise<boolean> => {
      const { bytes } = packet({ from, to: PEER });
      driver.start([[bytes, virtioHeader()]]);
      await served(machine);
      return driver.rxqEof().length === 1;
    };
    const heard = async () => [
      await hears(driver.mac),
      await hears(stranger),
      await hears(group),
      await hears(other),
      await hears([255, 255, 255, 255, 255, 255]),
    ];
    assertEquals(await heard(), [true, false, false, false, true]);
    driver.groups = [group];
    await driver.stop();
    await driver.init();
    assertEquals(await heard(), [true, false, true, false, true]);
    assertEquals(await driver.execControl(0, 1, [1]), 0);
    assertEquals(await heard(), [true, false, true, true, true]);
    assertEquals(await driver.execControl(0, 0, [1]), 0);
    assertEquals(await heard(), [true, true, true, true, true]);
    driver.groups = [];
    await driver.stop();
    await driver.init();
    assertEquals(await heard(), [true, false, false, false, true]);
  },
};

/** The link goes down and up. */
export const link: NetStep = {
  what: "sees the link go down and up",
  source: "network/if_vtnet.c vtnet_config_change, vtnet_update_link_status",
  async run(machine): Promise<void> {
    const { driver, bus, server } = machine;
    await server.command("link", { up: false });
    await bus.sleepConfigChange();
    assertEquals(driver.linkActive, false);
    assertEquals(driver.start([[frame(machine, 1), virtioHeader()]]), 0);
    await server.command("link", { up: true });
    await bus.sleepConfigChange();
    assertEquals(driver.linkActive, true);
    driver.start([[frame(machine, 1), virtioHeader()]]);
    assertEquals((await driver.receive(1)).length, 1);
  },
};

/** Frames on every pair that is used. */
export const pairs: NetStep = {
  what: "uses the pairs that it has processors for",
  source: "network/if_vtnet.c vtnet_alloc_virtqueues, " +
    "vtnet_set_active_vq_pairs, vtnet_ctrl_mq_cmd, vtnet_txq_mq_start",
  async run(machine): Promise<void> {
    const { driver } = machine;
    for (let pair = 0; pair < driver.activePairs; pair++) {
      const bytes = frame(machine, 100 + pair);
      driver.start([[bytes, virtioHeader()]], pair);
      const [received] = await driver.receive(1, pair);
      assertEquals(received.bytes, echoed(bytes));
    }
    assertEquals(driver.control.index, 2 * driver.maxPairs);
  },
};

/** `ifconfig vtnet0 -lro`: fewer features from the next time on. */
export const withoutLro: NetStep = {
  what: "comes up with fewer features",
  source: "network/if_vtnet.c vtnet_ioctl_ifcap, vtnet_virtio_reinit",
  async run(machine): Promise<void> {
    const { driver } = machine;
    await driver.stop();
    driver.lro = false;
    await driver.init();
    const { device } = await machine.status();
    assertEquals(device.receiveOffloads.includes("tso4"), false);
  },
};

/** `kldunload if_vtnet`, then `kldload`. */
export const reload: NetStep = {
  what: "is unloaded and loaded again",
  source: ({ bus }) =>
    "network/if_vtnet.c vtnet_detach, vtnet_free_ctrl_vq; " +
    bus.functionName("child_detached"),
  async run(machine): Promise<void> {
    await machine.bus.detachChild();
    const { rings } = await machine.status();
    assertEquals(rings, []);
    machine.driver = machine.newDriver();
  },
};

/** What must be true when all is done. */
export const healthy: NetStep = {
  what: "the server saw nothing wrong",
  source: "virtqueue.c VQASSERT: a kernel with INVARIANTS did not panic",
  async run(machine): Promise<void> {
    const { session, rings, device } = await machine.status();
    assertEquals(
      [session?.refused, session?.ignored, session?.lastError],
      [0, 0, null],
    );
    for (const ring of rings) {
      assertEquals([ring.badChains, ring.broken], [0, null]);
    }
    const { frames } = device;
    assertEquals(
      [frames.badHeaders, frames.rxBadBuffer, frames.refusedCommands],
      [{}, 0, 0],
    );
    assertEquals([frames.txRunts, frames.txGiants, frames.txShortHeader], [
      ...[0, 0, 0],
    ]);
  },
};
