/**
 * The virtio network device.
 *
 * Theory of operation. A frame that the driver sends is judged, handed to the
 * backend and given back to the driver at once: sent, or dropped and counted.
 * Only a backend that is busy for a moment makes a transmit ring wait, and for a
 * second at most: drivers take a queue that does not move for dead. A frame for
 * the driver is put into its buffers when it comes, or, where it can wait
 * outside, when the driver has made room; so a receive ring is served only to
 * fetch what waits, and parked otherwise.
 *
 *     transmit ring -> header check -> software offload -> backend
 *     backend -> link, filter -> software offload -> receive ring
 *
 * Software offload does what the next one on the way did not agree to do.
 *
 * The queues of pair i are 2i (receive) and 2i + 1 (transmit); the control queue
 * follows all pairs, or the first one if MQ was not negotiated (virtio 1.4,
 * section 5.1.2). Several Workers share them by pairs: each has an object of its
 * own, and what the driver says on the control queue reaches all of them
 * (`control_queue.ts`).
 *
 * Source: virtio 1.4, section 5.1.
 *
 * @module
 */

import {
  featureMask,
  hasFeature,
  VIRTIO_F_VERSION_1,
} from "../../virtqueue/constants.ts";
import type {
  DeviceContext,
  VirtioDevice,
  VirtQueue,
} from "../../virtqueue/device.ts";
import {
  DELIVERED,
  DROPPED,
  type NetBackend,
  type NetPort,
} from "./backend.ts";
import { ConfigSpace } from "./config_space.ts";
import { ControlQueue } from "./control_queue.ts";
import { hostOffloads, offeredFeatures, offloadNames } from "./features.ts";
import { Frame } from "./frame.ts";
import { NetMetrics } from "./metrics.ts";
import { formatMac, parseMac, type ResolvedNetOptions } from "./options.ts";
import {
  HEADER_SIZE,
  LEGACY_HEADER_SIZE,
  MAX_FRAME,
  MIN_FRAME,
  NetFeature,
  VIRTIO_ID_NET,
} from "./protocol.ts";
import { RARP_SIZE, writeRarp } from "./rarp.ts";
import { type RxFormat, RxRing } from "./rx_ring.ts";
import { type FrameSink, SoftwareOffload } from "./software.ts";
import { Transmitter } from "./transmitter.ts";

/** Longest chain, in descriptors. */
const MAX_SEGMENTS = 128;
/** Segments of a chain that buffers make which cross memory regions. */
const REGION_CROSSINGS = 4;
const SEGMENTS: number = MAX_SEGMENTS + REGION_CROSSINGS;
/** Features that come and go while a driver runs: `VHOST_F_LOG_ALL`. */
const NOT_THE_DRIVERS: bigint = featureMask(26);
/** Most buffers that one received frame is spread over. */
const MAX_BUFFERS = 128;

/** A virtio network device over any {@linkcode NetBackend}. */
export class NetDevice implements VirtioDevice, NetPort, FrameSink {
  readonly deviceId: number = VIRTIO_ID_NET;
  readonly features: bigint;
  readonly queueCount: number;
  readonly maxSegments: number = MAX_SEGMENTS;
  /** The two queues of a pair. */
  readonly adjacentQueues = 2;
  readonly pairs: number;
  readonly chainsPerTurn?: number;
  /** What was counted since the device was made. */
  readonly metrics: NetMetrics = new NetMetrics();
  readonly #backend: NetBackend;
  readonly #context: DeviceContext;
  readonly #config: ConfigSpace;
  readonly #format: RxFormat = {
    headerSize: LEGACY_HEADER_SIZE,
    mergeable: false,
    checksums: false,
  };
  readonly #software = new SoftwareOffload();
  readonly #rx: RxRing[] = [];
  readonly #tx: Transmitter;
  /** What may be undone in frames that the driver gets. */
  #guestOffloads = 0;
  #control = -1;
  readonly #commands: ControlQueue;
  readonly #workers: number;
  /** Pairs that frames are delivered to. */
  #usedPairs = 1;
  /** The receive queue that is being served. */
  #serving: VirtQueue | null = null;
  /** Where software offload puts frames. */
  #target: RxRing | null = null;
  /** A ring is {@linkcode RxRing.touched}. */
  #touched = false;

  /** Makes a device of a backend, which it closes in the end. */
  constructor(
    options: ResolvedNetOptions,
    backend: NetBackend,
    context: DeviceContext,
  ) {
    this.#backend = backend;
    this.#context = context;
    this.pairs = options.queues;
    if (backend.burst !== undefined) this.chainsPerTurn = backend.burst;
    this.features = offeredFeatures(options, backend);
    this.queueCount = 2 * this.pairs + (options.ctrlVq ? 1 : 0);
    this.#workers = options.workers;
    this.#config = new ConfigSpace(options);
    this.#commands = new ControlQueue({
      context,
      config: this.#config,
      metrics: this.metrics,
      pairs: options.queues,
      pairsChanged: () => this.#countPairs(),
      useOffloads: (offloads) => {
        this.#guestOffloads = offloads;
        backend.setOffloads(offloads);
      },
    });
    this.#tx = new Transmitter({
      backend,
      config: this.#config,
      metrics: this.metrics,
      software: this.#software,
      pairs: this.pairs,
      segments: SEGMENTS,
    });
    for (let i = 0; i < this.pairs; i++) {
      this.#rx.push(
        new RxRing(
          this.#format,
          this.metrics,
          SEGMENTS,
          Math.min(MAX_BUFFERS, context.slotsPerQueue),
        ),
      );
    }
    backend.attach(this);
    this.#config.setLink(backend.linkUp);
    this.#commands.filter.setMac(this.#config.mac);
  }

  /** Configuration space. */
  get config(): Uint8Array {
    return this.#config.bytes;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    // Only a legacy driver that has no command for it writes its address here.
    const { negotiated, filter } = this.#commands;
    if (
      hasFeature(negotiated, VIRTIO_F_VERSION_1) ||
      hasFeature(negotiated, NetFeature.CTRL_MAC_ADDR)
    ) return;
    this.#config.writeMac(offset, data);
    filter.setMac(this.#config.mac);
  }

  negotiate(features: bigint): void {
    const modern = hasFeature(features, VIRTIO_F_VERSION_1);
    const commands = this.#commands;
    const changed = (features ^ commands.negotiated) & ~NOT_THE_DRIVERS;
    const mergeable = hasFeature(features, NetFeature.MRG_RXBUF);
    commands.negotiated = features;
    this.#format.headerSize = modern || mergeable
      ? HEADER_SIZE
      : LEGACY_HEADER_SIZE;
    this.#format.mergeable = mergeable;
    this.#format.checksums = hasFeature(features, NetFeature.GUEST_CSUM);
    this.#control = !hasFeature(features, NetFeature.CTRL_VQ)
      ? -1
      : hasFeature(features, NetFeature.MQ)
      ? 2 * this.pairs
      : 2;
    this.#tx.headerSize = this.#format.headerSize;
    this.#tx.offloads = hostOffloads(features);
    // Another driver, of whose commands there were none yet.
    if (changed !== 0n) commands.renew();
  }

  serve(queue: VirtQueue, budget: number): boolean {
    const { index } = queue;
    if (this.#isControl(index)) return this.#commands.serve(queue, budget);
    const pair = index >> 1;
    return (index & 1) === 0
      ? this.#receive(queue, pair, budget)
      : this.#tx.serve(queue, pair, budget);
  }

  poll(): number {
    const moved = this.#backend.poll?.() ?? 0;
    if (this.#touched) this.#publishTouched();
    return moved;
  }

  activate(): void {
    this.#commands.activate();
  }

  start(queue: VirtQueue): void {
    const { index } = queue;
    if (this.#isControl(index)) this.#commands.start();
    else if ((index & 1) === 0) {
      this.#rx[index >> 1].queue = queue;
      this.#countPairs();
    }
  }

  quiesce(queue: VirtQueue): void {
    const { index } = queue;
    if (this.#isControl(index)) return this.#commands.quiesce();
    const pair = index >> 1;
    if ((index & 1) !== 0) {
      this.#tx.forget(pair);
      return;
    }
    const ring = this.#rx[pair];
    ring.release();
    ring.queue = null;
    this.#countPairs();
  }

  reset(): void {
    this.#format.headerSize = LEGACY_HEADER_SIZE;
    this.#format.mergeable = false;
    this.#format.checksums = false;
    this.#tx.headerSize = LEGACY_HEADER_SIZE;
    this.#tx.offloads = 0;
    this.#control = -1;
    this.#config.reset();
    this.#commands.reset();
  }

  hear(value: unknown): void {
    this.#commands.hear(value as Parameters<ControlQueue["hear"]>[0]);
  }

  /**
   * Serves the commands `link` (parameter `up`), `announce` (parameter `mac`: the
   * network is told that this address is here now; without it the driver is asked
   * to tell) and `mtu` (parameter `mtu`).
   *
   * @throws {Error} for any other command, and parameters that cannot be
   */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Record<string, unknown> {
    switch (name) {
      case "link": {
        const { up } = parameters;
        if (typeof up !== "boolean") {
          throw new TypeError(`Cannot set the link to ${up}: it is up or down`);
        }
        const before = this.#config.linkUp;
        this.#config.setAdministrative(up);
        if (up && !before) this.#askToAnnounce();
        this.#context.configChanged();
        if (this.#context.worker === 0) {
          this.#context.log("info", `the link is ${up ? "up" : "down"}`);
        }
        return { up: this.#config.linkUp };
      }
      case "announce": {
        const { mac } = parameters;
        // Several objects of a device are all told.
        if (mac !== undefined && this.#context.worker === 0) {
          this.#sendRarp(parseMac(mac));
        }
        if (this.#askToAnnounce()) this.#context.configChanged();
        return {};
      }
      case "mtu":
        this.#config.setMtu(parameters.mtu);
        this.#context.configChanged();
        return { mtu: parameters.mtu };
      default:
        throw new Error(`A network device knows no command "${name}"`);
    }
  }

  status(): Record<string, unknown> {
    const { checksums, segmented, segments, malformed } = this.#software;
    return {
      backend: this.#backend.description,
      link: this.#config.linkUp ? "up" : "down",
      mac: this.#config.hasMac ? formatMac(this.#config.mac) : null,
      mtu: this.#config.mtu,
      queuePairs: this.#ownPairs(this.#usedPairs),
      headerSize: this.#format.headerSize,
      transmitOffloads: offloadNames(this.#tx.offloads),
      receiveOffloads: offloadNames(this.#guestOffloads),
      frames: this.metrics.toJSON(),
      software: { checksums, segmented, segments, malformed },
      filter: this.#commands.filter.toJSON(),
      ...this.#backend.status(),
    };
  }

  close(): void {
    this.#backend.close();
    this.#software[Symbol.dispose]();
    this.#tx[Symbol.dispose]();
  }

  // --- NetPort: from the backend ---

  deliver(frame: Frame, pair: number, mayWait: boolean): number {
    const { metrics } = this;
    if (!this.#config.linkUp) {
      metrics.rxLinkDown++;
      return DROPPED;
    }
    if (frame.length < MIN_FRAME || frame.length > MAX_FRAME) {
      metrics.rxBadLength++;
      return DROPPED;
    }
    if (!this.#commands.filter.accepts(frame.start)) {
      metrics.rxFiltered++;
      return DROPPED;
    }
    const used = this.#usedPairs;
    const ring = this.#rx[pair < used ? pair : pair % used];
    const { queue } = ring;
    if (queue === null) {
      metrics.rxNoBuffer++;
      return DROPPED;
    }
    let result = DELIVERED;
    if ((frame.header.needs & ~this.#guestOffloads) === 0) {
      result = ring.place(frame, mayWait);
    } else {
      this.#target = ring;
      if (!this.#software.run(frame, this.#guestOffloads, this)) {
        result = DROPPED;
      }
    }
    // Once a turn is often enough for what is published once a turn.
    if (result === DELIVERED && queue !== this.#serving) {
      ring.touched = true;
      this.#touched = true;
    }
    return result;
  }

  /** A finished frame for the guest. */
  emit(frame: Frame): boolean {
    return this.#target!.place(frame, false) === DELIVERED;
  }

  receivable(pair: number): void {
    const { queue } = this.#rx[pair];
    if (queue !== null) this.#context.resume(queue);
  }

  sendable(): void {
    for (const queue of this.#tx.stalled) {
      if (queue !== null) this.#context.resume(queue);
    }
  }

  linkChanged(): void {
    this.#config.setLink(this.#backend.linkUp);
    if (this.#config.linkUp) this.#askToAnnounce();
    this.#context.configChanged();
  }

  // --- queues ---

  #isControl(index: number): boolean {
    return index === this.#control || index >> 1 >= this.pairs;
  }

  #receive(queue: VirtQueue, pair: number, budget: number): boolean {
    if (pair >= this.#usedPairs) return false;
    this.#serving = queue;
    const more = this.#backend.receive(pair, budget);
    this.#serving = null;
    return more;
  }

  /** Has the loop publish what was put into rings that it does not serve. */
  #publishTouched(): void {
    this.#touched = false;
    for (let i = 0; i < this.#rx.length; i++) {
      const ring = this.#rx[i];
      if (!ring.touched) continue;
      ring.touched = false;
      if (ring.queue !== null) this.#context.resume(ring.queue);
    }
  }

  /** Whether a pair is this object's: other Workers have the others. */
  #isOwn(pair: number): boolean {
    return pair % this.#workers === this.#context.worker;
  }

  /** How many of the first pairs are this object's. */
  #ownPairs(pairs: number): number {
    let own = 0;
    for (let i = 0; i < pairs; i++) if (this.#isOwn(i)) own++;
    return own;
  }

  /** Finds out how many pairs frames can be delivered to. */
  #countPairs(): void {
    const { negotiated, pairLimit } = this.#commands;
    const runs = (pair: number) =>
      !this.#isOwn(pair) || this.#rx[pair].queue !== null;
    let pairs = 0;
    while (pairs < this.pairs && runs(pairs)) pairs++;
    pairs = Math.min(pairs, pairLimit);
    if (!hasFeature(negotiated, NetFeature.MQ)) pairs = 1;
    pairs = Math.max(pairs, 1);
    if (pairs === this.#usedPairs) return;
    this.#usedPairs = pairs;
    this.#backend.setPairs(pairs);
    for (let i = 0; i < pairs; i++) this.receivable(i);
  }

  /** Asks the driver to announce itself, where it knows how; true: it was asked. */
  #askToAnnounce(): boolean {
    if (!this.#commands.canAnnounce) return false;
    this.#config.announcing = true;
    return true;
  }

  #sendRarp(mac: Uint8Array): void {
    using frame = new Frame(1, RARP_SIZE);
    writeRarp(frame.bytes, mac);
    frame.takeBytes(0, RARP_SIZE);
    this.#backend.send(frame, 0);
  }
}
