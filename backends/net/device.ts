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
 * section 5.1.2).
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
import { type Controlled, runCommand } from "./control.ts";
import {
  guestOffloads,
  hostOffloads,
  offeredFeatures,
  offloadNames,
} from "./features.ts";
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
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "./protocol.ts";
import { RARP_SIZE, writeRarp } from "./rarp.ts";
import { RxFilter } from "./rx_filter.ts";
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
export class NetDevice implements VirtioDevice, NetPort, FrameSink, Controlled {
  readonly deviceId: number = VIRTIO_ID_NET;
  readonly features: bigint;
  readonly queueCount: number;
  readonly maxSegments: number = MAX_SEGMENTS;
  readonly pairs: number;
  readonly filter: RxFilter = new RxFilter();
  /** What was counted since the device was made. */
  readonly metrics: NetMetrics = new NetMetrics();
  negotiated = 0n;
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
  /** True once a command came: no front-end answers the control queue for us. */
  #controlled = false;
  /** It is known whether the control queue is a new driver's. */
  #judged = false;
  /** Pairs that the driver said it uses; 0: it did not say. */
  #askedPairs = 0;
  /** Pairs that frames are delivered to. */
  #usedPairs = 1;
  /** The receive queue that is being served. */
  #serving: VirtQueue | null = null;
  /** Where software offload puts frames. */
  #target: RxRing | null = null;

  /** Makes a device of a backend, which it closes in the end. */
  constructor(
    options: ResolvedNetOptions,
    backend: NetBackend,
    context: DeviceContext,
  ) {
    this.#backend = backend;
    this.#context = context;
    this.pairs = options.queues;
    this.features = offeredFeatures(options, backend);
    this.queueCount = 2 * this.pairs + (options.ctrlVq ? 1 : 0);
    this.#config = new ConfigSpace(options);
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
    this.filter.setMac(this.#config.mac);
  }

  /** Configuration space. */
  get config(): Uint8Array {
    return this.#config.bytes;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    // Only a legacy driver that has no command for it writes its address here.
    if (
      hasFeature(this.negotiated, VIRTIO_F_VERSION_1) ||
      hasFeature(this.negotiated, NetFeature.CTRL_MAC_ADDR)
    ) return;
    this.#config.writeMac(offset, data);
    this.filter.setMac(this.#config.mac);
  }

  negotiate(features: bigint): void {
    const modern = hasFeature(features, VIRTIO_F_VERSION_1);
    const changed = (features ^ this.negotiated) & ~NOT_THE_DRIVERS;
    const mergeable = hasFeature(features, NetFeature.MRG_RXBUF);
    this.negotiated = features;
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
    if (changed !== 0n) this.#forgetCommands();
  }

  serve(queue: VirtQueue, budget: number): boolean {
    const { index } = queue;
    if (index === this.#control) return this.#serveControl(queue, budget);
    const pair = index >> 1;
    if (pair >= this.pairs) return this.#serveControl(queue, budget);
    return (index & 1) === 0
      ? this.#receive(queue, pair, budget)
      : this.#tx.serve(queue, pair, budget);
  }

  poll(): number {
    return this.#backend.poll?.() ?? 0;
  }

  activate(): void {
    this.#judged = false;
  }

  start(queue: VirtQueue): void {
    const { index } = queue;
    if (index === this.#control || index >= 2 * this.pairs) return;
    // A frame may come before this ring's first turn: of the other ring, say.
    if ((index & 1) === 0) this.#rx[index >> 1].queue = queue;
  }

  quiesce(queue: VirtQueue): void {
    const { index } = queue;
    const pair = index >> 1;
    if (index === this.#control || pair >= this.pairs) return;
    if ((index & 1) !== 0) {
      this.#tx.forget(pair);
      return;
    }
    const ring = this.#rx[pair];
    ring.release();
    ring.queue = null;
    ring.hadBuffers = false;
    this.#countPairs();
  }

  reset(): void {
    this.negotiated = 0n;
    this.#format.headerSize = LEGACY_HEADER_SIZE;
    this.#format.mergeable = false;
    this.#format.checksums = false;
    this.#tx.headerSize = LEGACY_HEADER_SIZE;
    this.#tx.offloads = 0;
    this.#control = -1;
    this.#config.reset();
    this.#forgetCommands();
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
        return { up: this.#config.linkUp };
      }
      case "announce": {
        const { mac } = parameters;
        if (mac !== undefined) this.#sendRarp(parseMac(mac));
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
      queuePairs: this.#usedPairs,
      headerSize: this.#format.headerSize,
      transmitOffloads: offloadNames(this.#tx.offloads),
      receiveOffloads: offloadNames(this.#guestOffloads),
      frames: this.metrics.toJSON(),
      software: { checksums, segmented, segments, malformed },
      filter: this.filter.toJSON(),
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
    if (!this.filter.accepts(frame.start)) {
      metrics.rxFiltered++;
      return DROPPED;
    }
    const ring = this.#rx[pair % this.#usedPairs];
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
    if (result === DELIVERED && queue !== this.#serving) {
      this.#context.resume(queue);
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

  // --- Controlled: from the control queue ---

  setMac(mac: Uint8Array): void {
    this.#config.writeMac(0, mac);
    this.filter.setMac(mac);
    this.#context.configChanged();
  }

  setPairs(pairs: number): void {
    this.#askedPairs = pairs;
    this.#countPairs();
  }

  setGuestOffloads(bits: number): boolean {
    const asked = BigInt(bits);
    const known = this.negotiated & ((1n << 32n) - 1n);
    const wanted = guestOffloads(asked);
    if ((asked & ~known) !== 0n || (asked !== 0n && wanted === 0)) return false;
    this.#useGuestOffloads(wanted);
    return true;
  }

  announced(): void {
    this.#config.announcing = false;
    this.#context.configChanged();
  }

  // --- queues ---

  #serveControl(queue: VirtQueue, budget: number): boolean {
    this.#judge(queue);
    for (let i = 0; i < budget; i++) {
      const chain = queue.take();
      if (chain === null) break;
      if (!this.#controlled) {
        this.#controlled = true;
        if (hasFeature(this.negotiated, NetFeature.CTRL_VLAN)) {
          this.filter.filterVlans();
        }
      }
      const done = !chain.truncated && runCommand(chain, this);
      this.metrics.commands++;
      if (!done) this.metrics.refusedCommands++;
      const answer = done ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
      queue.complete(chain, chain.writeUint8(0, answer) ? 1 : 0);
    }
    return true;
  }

  #receive(queue: VirtQueue, pair: number, budget: number): boolean {
    const ring = this.#rx[pair];
    if (!ring.hadBuffers) {
      ring.hadBuffers = true;
      this.#countPairs();
    }
    if (pair >= this.#usedPairs) return false;
    this.#serving = queue;
    const more = this.#backend.receive(pair, budget);
    this.#serving = null;
    return more;
  }

  /**
   * Some front-ends tell nobody of a reset. A control queue that begins anew is
   * a new driver's; one that goes on from where it was is the same one's.
   */
  #judge(queue: VirtQueue): void {
    if (this.#judged) return;
    const chain = queue.take();
    if (chain === null) return;
    const { position } = chain;
    queue.untake(chain);
    this.#judged = true;
    if (position === 0) this.#forgetCommands();
  }

  /** Forgets what a driver has said on the control queue. */
  #forgetCommands(): void {
    this.#askedPairs = 0;
    this.#controlled = false;
    this.#config.announcing = false;
    this.filter.reset();
    this.filter.setMac(this.#config.mac);
    this.#useGuestOffloads(guestOffloads(this.negotiated));
    this.#countPairs();
  }

  /** Finds out how many pairs frames can be delivered to. */
  #countPairs(): void {
    let pairs = 0;
    while (pairs < this.pairs && this.#rx[pairs].hadBuffers) pairs++;
    if (this.#askedPairs > 0) pairs = Math.min(pairs, this.#askedPairs);
    if (!hasFeature(this.negotiated, NetFeature.MQ)) pairs = 1;
    pairs = Math.max(pairs, 1);
    if (pairs === this.#usedPairs) return;
    this.#usedPairs = pairs;
    this.#backend.setPairs(pairs);
    for (let i = 0; i < pairs; i++) this.receivable(i);
  }

  #useGuestOffloads(offloads: number): void {
    this.#guestOffloads = offloads;
    this.#backend.setOffloads(offloads);
  }

  /** Asks the driver to announce itself, where it knows how; true: it was asked. */
  #askToAnnounce(): boolean {
    if (
      !hasFeature(this.negotiated, NetFeature.GUEST_ANNOUNCE) ||
      !this.#controlled
    ) return false;
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
