/**
 * vtnet(4), function by function.
 *
 * Theory of operation: the methods are those of
 * `sys/dev/virtio/network/if_vtnet.c` of FreeBSD 10.4 to 15.1 under their names
 * without the prefix `vtnet_`. An interface that is brought up resets the device
 * and sets everything up anew, queues of pairs that are not used included.
 * Frames that were sent are reaped when others are sent, and by a watchdog: until
 * three quarters of a ring are full nobody asks for an interrupt. The control
 * queue is spun on; until 12 before DRIVER_OK, so that such a release needs a
 * front-end that answers the control queue itself, or a device without one.
 *
 * An mbuf is a cluster of 2 KiB here; what the network stack does with frames is
 * the test's.
 *
 * @module
 */

import {
  featureMask,
  hasFeature,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import { kassert } from "../freebsd/kernel.ts";
import { SgList } from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import type { FeatureNames } from "../freebsd/features.ts";
import type { VirtioChild, VirtioPci } from "../freebsd/virtio_pci.ts";
import type { Virtqueue } from "../freebsd/virtqueue.ts";
import { execControl } from "./control.ts";
import { NetBit, vtnetProfile } from "./features.ts";

/** `MCLBYTES`. */
const CLUSTER = 2048;
/** `VTNET_RX_SEGS_LRO_NOMRG` and `VTNET_RX_SEGS_HDR_SEPARATE`. */
const RX_SEGS_LRO_NOMRG = 34, RX_SEGS_HDR_SEPARATE = 2;
/** `VTNET_TX_SEGS_MAX` and `VTNET_TX_SEGS_MIN`. */
const TX_SEGS_MAX = 64, TX_SEGS_MIN = 32;
/** `sizeof(struct vtnet_rx_header)`: the header and a gap. */
const RX_HEADER = 14;
/** `VTNET_MAX_RX_SIZE`. */
const MAX_RX_SIZE = 65550, ETHER_HDR_LEN = 14;
/** `VTNET_TX_TIMEOUT`, in seconds. */
export const TX_TIMEOUT = 5;

type Queue = Virtqueue<number[]>;

/** A frame that was received. */
export interface Received {
  /** `struct virtio_net_hdr`, as the device wrote it. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Buffers that it took. */
  readonly buffers: number;
}

/** `struct vtnet_softc`. */
export class Vtnet implements VirtioChild {
  readonly name = "vtnet0";
  readonly featureNames: FeatureNames;
  /** `IF_LLADDR`. */
  mac: readonly number[] = [0x58, 0x9c, 0xfc, 0, 0, 1];
  /** `IFF_PROMISC`, `IFF_ALLMULTI`. */
  promisc = false;
  allmulti = false;
  /** `if_foreach_llmaddr`: groups. */
  groups: (readonly number[])[] = [];
  /** `IFCAP_LRO`. */
  lro = true;
  /** `IFF_DRV_RUNNING`. */
  running = false;
  /** `vtnet_link_active`. */
  linkActive = false;
  /** `vtnet_max_vq_pairs`, `vtnet_act_vq_pairs`. */
  maxPairs = 1;
  activePairs = 1;
  /** `vtnet_hdr_size`. */
  headerSize = 10;
  /** `vrxs_ierrors`. */
  inputErrors = 0;
  /** `vtntx_watchdog` of each queue, in seconds. */
  readonly watchdogs: number[] = [];
  readonly #cpus: number;
  #bus!: VirtioPci;
  #features = 0n;
  #requestedPairs = 1;
  #rxSegments = 1;
  #txSegments = TX_SEGS_MIN;
  #rxClusters = 1;
  #threshold = 0;
  #queues: Queue[] = [];

  readonly #until12: boolean;

  /** @param cpus `mp_ncpus` */
  constructor(cpus: number, { modernPci }: FreeBsdRelease) {
    this.#cpus = cpus;
    this.#until12 = !modernPci;
    this.featureNames = vtnetProfile(modernPci).names;
  }

  /** `vtnrx_vq`. */
  rx(pair = 0): Queue {
    return this.#queues[2 * pair];
  }

  /** `vtntx_vq`. */
  tx(pair = 0): Queue {
    return this.#queues[2 * pair + 1];
  }

  /** `vtnet_ctrl_vq`. */
  get control(): Queue {
    return this.#queues[2 * this.maxPairs];
  }

  /** `VTNET_FLAG_MRG_RXBUFS`. */
  get mergeable(): boolean {
    return this.#has(NetBit.MRG_RXBUF);
  }

  /** `vtnet_modern`. */
  get modern(): boolean {
    return this.#has(VIRTIO_F_VERSION_1);
  }

  async attach(bus: VirtioPci): Promise<number> {
    this.#bus = bus;
    const error = await this.#setupFeatures();
    if (error !== 0) return error;
    const queues = await bus.allocVirtqueues<number[]>(this.#requests());
    if (typeof queues === "number") return queues;
    this.#queues = queues;
    await bus.setupIntr();
    return 0;
  }

  /** `vtnet_detach`. */
  async detach(): Promise<void> {
    if (this.#bus.attached) await this.stop();
  }

  /** `vtnet_shutdown`. */
  shutdown(): Promise<void> {
    return this.stop();
  }

  /** `vtnet_config_change`. */
  configChange(): Promise<void> {
    return this.#updateLinkStatus();
  }

  /** `vtnet_init`: `ifconfig vtnet0 up`. */
  async init(): Promise<void> {
    if (this.running) return;
    await this.stop();
    kassert(await this.#reinit() === 0, "vtnet0 does not come up");
    this.running = true;
    await this.#updateLinkStatus();
    for (let i = 0; i < this.activePairs; i++) {
      kassert(!this.rx(i).enableIntr(), "frames before the interface is up");
    }
  }

  /** `vtnet_stop`: `ifconfig vtnet0 down`. */
  async stop(): Promise<void> {
    this.running = false;
    this.linkActive = false;
    await this.#bus.stop();
    // vtnet_drain_rxtx_queues.
    for (let i = 0; i < this.#requestedPairs; i++) {
      for (const queue of [this.rx(i), this.tx(i)]) {
        for (const cookie of queue.drain()) this.#free(cookie);
        kassert(queue.empty, "mbufs remaining in a queue");
      }
    }
  }

  /**
   * `vtnet_txq_encap`: puts a frame on the ring.
   *
   * @param header `struct virtio_net_hdr`
   * @returns false when the ring is full
   */
  encap(bytes: Uint8Array, header: Uint8Array, pair = 0): boolean {
    const queue = this.tx(pair);
    if (queue.full) return false;
    const { memory } = this.#bus;
    const sg = new SgList(this.#txSegments);
    const cookie: number[] = [];
    const append = (from: Uint8Array, size: number) => {
      const address = memory.malloc(size);
      memory.ram.bytes(address, from.length).set(from);
      cookie.push(address, size);
      kassert(sg.append(address, from.length), "cannot append to the sglist");
    };
    append(header.subarray(0, this.headerSize), 16);
    kassert(sg.count === 1, "cannot add header to sglist");
    for (let at = 0; at < bytes.length; at += CLUSTER) {
      append(bytes.subarray(at, at + CLUSTER), CLUSTER);
    }
    return queue.enqueue(cookie, sg, sg.count, 0) === 0;
  }

  /** `vtnet_txq_mq_start_locked`: sends frames; how many there was room for. */
  start(frames: readonly [Uint8Array, Uint8Array][], pair = 0): number {
    if (!this.running || !this.linkActive) return 0;
    this.txqEof(pair);
    let sent = 0;
    for (const [bytes, header] of frames) {
      if (!this.encap(bytes, header, pair)) break;
      sent++;
    }
    if (sent > 0) this.#txqNotify(pair);
    return sent;
  }

  /** `vtnet_txq_eof`: reaps what was sent. */
  txqEof(pair = 0): number {
    const queue = this.tx(pair);
    let reaped = 0;
    for (;;) {
      const done = queue.dequeue();
      if (done === null) break;
      this.#free(done.cookie);
      reaped++;
    }
    if (queue.empty) this.watchdogs[pair] = 0;
    return reaped;
  }

  /** `vtnet_tick`, once a second; false: a watchdog timed out. */
  tick(): boolean {
    let alive = true;
    for (let i = 0; i < this.activePairs; i++) {
      if (this.watchdogs[i] === 1) this.txqEof(i);
      if (this.watchdogs[i] > 0 && --this.watchdogs[i] === 0) alive = false;
    }
    return alive;
  }

  /** `vtnet_rxq_eof`: takes what was received, and makes room again. */
  rxqEof(pair = 0): Received[] {
    const queue = this.rx(pair);
    const frames: Received[] = [];
    for (;;) {
      const done = queue.dequeue();
      if (done === null) break;
      if (done.length < this.headerSize + ETHER_HDR_LEN) {
        this.inputErrors++;
        this.#enqueueBuffer(queue, done.cookie);
        continue;
      }
      frames.push(this.#input(queue, done.cookie, done.length));
    }
    if (frames.length > 0) queue.notify();
    return frames;
  }

  /** `vtnet_rx_vq_intr`, from an interrupt on: all frames, interrupts on again. */
  async receive(count: number, pair = 0): Promise<Received[]> {
    const frames: Received[] = [];
    while (frames.length < count) {
      frames.push(...this.rxqEof(pair));
      if (frames.length >= count || this.rx(pair).enableIntr()) continue;
      let woken = false;
      await this.#bus.sleep(this.rx(pair), () => {
        const was = woken;
        woken = true;
        return was;
      }, `${count} frames, ${frames.length} of which came`);
    }
    return frames;
  }

  /** `vtnet_exec_ctrl_cmd`: the answer. */
  execControl(
    kind: number,
    command: number,
    ...data: readonly (readonly number[])[]
  ): Promise<number> {
    return execControl(this.#bus, this.control, [[kind, command], ...data]);
  }

  #has(bit: number): boolean {
    return hasFeature(this.#features, bit);
  }

  async #config16(offset: number): Promise<number> {
    const [low, high] = await this.#bus.readConfig(offset, 2);
    return low | high << 8;
  }

  /** `vtnet_negotiate_features` and `vtnet_setup_features`. */
  async #setupFeatures(): Promise<number> {
    const bus = this.#bus;
    const { legacy, modern } = vtnetProfile(!this.#until12);
    this.#features = await bus.negotiateFeatures(bus.modern ? modern : legacy);
    const error = await bus.finalizeFeatures();
    if (error !== 0) return error;
    this.headerSize = this.modern || this.mergeable ? 12 : 10;
    const lroWithout = this.#has(NetBit.GUEST_TSO4) && !this.mergeable;
    this.#rxSegments = lroWithout
      ? RX_SEGS_LRO_NOMRG
      : this.headerSize === 12
      ? 1
      : RX_SEGS_HDR_SEPARATE;
    this.#rxClusters = lroWithout
      ? Math.ceil((RX_HEADER + MAX_RX_SIZE) / CLUSTER)
      : 1;
    this.#txSegments = this.#has(NetBit.HOST_TSO4) ? TX_SEGS_MAX : TX_SEGS_MIN;
    if (this.#has(NetBit.MQ)) this.maxPairs = await this.#config16(8);
    this.#requestedPairs = Math.min(this.maxPairs, this.#cpus);
    return 0;
  }

  /** `vtnet_alloc_virtqueues`. */
  #requests() {
    const used = Array.from({ length: this.#requestedPairs }, (_, i) => [
      {
        name: `vtnet0-rx${i}`,
        maxIndirect: this.#rxSegments,
        interrupt: () => {},
      },
      {
        name: `vtnet0-tx${i}`,
        maxIndirect: this.#txSegments,
        interrupt: () => {},
      },
    ]);
    const unused = Array.from(
      { length: 2 * (this.maxPairs - this.#requestedPairs) },
      () => ({ name: "vtnet0-unused", maxIndirect: 0, interrupt: () => {} }),
    );
    const control = { name: "vtnet0 ctrl", maxIndirect: 0, interrupt() {} };
    const last = this.#has(NetBit.CTRL_VQ) ? [control] : [];
    return [...used.flat(), ...unused, ...last];
  }

  /** `vtnet_reinit`. */
  async #reinit(): Promise<number> {
    const lro = featureMask(NetBit.GUEST_TSO4, NetBit.GUEST_TSO6);
    const features = this.#features & ~featureMask(NetBit.CTRL_VLAN) &
      ~(this.lro ? 0n : lro | featureMask(NetBit.GUEST_ECN));
    const error = await this.#bus.reinit(features);
    if (error !== 0) return error;
    if (!this.#until12) await this.#bus.reinitComplete();
    await this.#setMac();
    await this.#setActivePairs();
    if (this.#has(NetBit.CTRL_RX)) await this.#initRxFilters();
    for (let i = 0; i < this.activePairs; i++) {
      this.#populate(this.rx(i));
      this.watchdogs[i] = 0;
    }
    this.#threshold = this.tx().size / 4;
    if (!this.#has(VIRTIO_F_INDIRECT_DESC)) {
      this.#threshold = Math.max(this.#threshold, this.#txSegments);
    }
    if (this.#until12) await this.#bus.reinitComplete();
    return 0;
  }

  /** `vtnet_set_macaddr`. */
  async #setMac(): Promise<void> {
    if (this.#has(NetBit.CTRL_MAC_ADDR)) {
      kassert(
        await this.execControl(1, 1, this.mac) === 0,
        "unable to set MAC address",
      );
    } else if (!this.modern) {
      for (const [i, byte] of this.mac.entries()) {
        await this.#bus.writeConfig1(i, byte);
      }
    }
  }

  /** `vtnet_set_active_vq_pairs`. */
  async #setActivePairs(): Promise<void> {
    this.activePairs = 1;
    if (this.#requestedPairs === 1) return;
    const pairs = this.#requestedPairs;
    const data = [pairs & 255, pairs >> 8];
    kassert(await this.execControl(4, 0, data) === 0, "cannot set pairs");
    this.activePairs = pairs;
  }

  /** `vtnet_rx_filter` and `vtnet_rx_filter_mac`. */
  async #initRxFilters(): Promise<void> {
    const answers = [
      await this.execControl(0, 0, [this.promisc ? 1 : 0]),
      await this.execControl(0, 1, [this.allmulti ? 1 : 0]),
      await this.execControl(1, 0, [0, 0, 0, 0], [
        ...[this.groups.length, 0, 0, 0],
        ...this.groups.flat(),
      ]),
    ];
    kassert(answers.every((answer) => answer === 0), "cannot set the filter");
  }

  /** `vtnet_update_link_status`. */
  async #updateLinkStatus(): Promise<void> {
    this.linkActive = !this.#has(NetBit.STATUS) ||
      (await this.#config16(6) & 1) !== 0;
  }

  /** `vtnet_rxq_populate`. */
  #populate(queue: Queue): void {
    let buffers = 0;
    while (!queue.full) {
      const cookie = this.#allocate();
      if (this.#enqueueBuffer(queue, cookie) !== 0) {
        this.#free(cookie);
        break;
      }
      buffers++;
    }
    kassert(buffers > 0, "cannot populate Rx queue");
    // Before DRIVER_OK QEMU hands no notification on (vub_handle_output).
    if (!this.#until12) queue.notify();
  }

  #allocate(): number[] {
    const cookie: number[] = [];
    for (let i = 0; i < this.#rxClusters; i++) {
      cookie.push(this.#bus.memory.malloc(CLUSTER), CLUSTER);
    }
    return cookie;
  }

  /** Addresses and sizes, by turns. */
  #free(cookie: readonly number[]): void {
    for (let i = 0; i < cookie.length; i += 2) {
      this.#bus.memory.mfree(cookie[i], cookie[i + 1]);
    }
  }

  /** `vtnet_rxq_enqueue_buf`. */
  #enqueueBuffer(queue: Queue, cookie: number[]): number {
    const sg = new SgList(this.#rxSegments);
    if (this.headerSize === 12) sg.append(cookie[0], CLUSTER);
    else {
      kassert(sg.append(cookie[0], 10), "no room for the header");
      kassert(
        sg.append(cookie[0] + RX_HEADER, CLUSTER - RX_HEADER),
        "no room for data",
      );
    }
    for (let i = 2; i < cookie.length; i += 2) {
      kassert(sg.append(cookie[i], CLUSTER), "too many rx mbufs");
    }
    return queue.enqueue(cookie, sg, 0, sg.count);
  }

  /** `vtnet_rxq_eof` of one frame, `vtnet_rxq_merged_eof` of its rest. */
  #input(queue: Queue, cookie: number[], length: number): Received {
    const { ram } = this.#bus.memory;
    const header = ram.read(cookie[0], this.headerSize);
    const buffers = this.mergeable ? header[10] | header[11] << 8 : 1;
    if (this.modern && !this.mergeable) {
      kassert((header[10] | header[11] << 8) === 1, "num_buffers is not 1");
    }
    kassert(buffers > 0, "num_buffers is 0");
    const gap = this.headerSize === 12 ? 0 : RX_HEADER - 10;
    const parts = [this.#cut(cookie, length + gap)];
    parts[0] = parts[0].subarray(this.headerSize + gap);
    this.#enqueueBuffer(queue, cookie);
    for (let i = 1; i < buffers; i++) {
      const next = queue.dequeue();
      kassert(next !== null, "rx_mergeable_failed");
      parts.push(this.#cut(next!.cookie, next!.length));
      this.#enqueueBuffer(queue, next!.cookie);
    }
    const bytes = new Uint8Array(parts.flatMap((part) => [...part]));
    return { header, bytes, buffers };
  }

  #cut(cookie: readonly number[], length: number): Uint8Array<ArrayBuffer> {
    const bytes: number[] = [];
    for (let i = 0; i < cookie.length && bytes.length < length; i += 2) {
      const piece = Math.min(CLUSTER, length - bytes.length);
      bytes.push(...this.#bus.memory.ram.bytes(cookie[i], piece));
    }
    return new Uint8Array(bytes);
  }

  /** `vtnet_txq_notify`, with `vtnet_txq_enable_intr`. */
  #txqNotify(pair: number): void {
    const queue = this.tx(pair);
    this.watchdogs[pair] = TX_TIMEOUT;
    queue.notify();
    // Until the free count is below the threshold, nobody asks.
    if (queue.freeCount > this.#threshold) return;
    if (queue.postponeIntr("long")) this.txqEof(pair);
  }
}
