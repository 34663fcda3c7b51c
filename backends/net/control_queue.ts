/**
 * The control queue, and what a driver has said on it.
 *
 * Theory of operation: commands are carried out as they come and answered at
 * once, since FreeBSD's driver spins until they are. A device of several Workers
 * has an object in each, and the queue is one object's: what a command changes is
 * told to all others, and the command is answered when they know. Until then the
 * queue waits, and nothing else does. An object that was reset meanwhile belongs
 * to another driver: it is told for which one, by a number that all objects count
 * alike.
 *
 * Some front-ends answer the queue themselves and never start it; others tell
 * nobody of a reset. A control queue that begins anew is a new driver's; one that
 * goes on from where it was is the same one's.
 *
 * Source: virtio 1.4, section 5.1.6.5.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { hasFeature } from "../../virtqueue/constants.ts";
import type { DeviceContext, VirtQueue } from "../../virtqueue/device.ts";
import type { ConfigSpace } from "./config_space.ts";
import { type Controlled, runCommand } from "./control.ts";
import { guestOffloads } from "./features.ts";
import type { NetMetrics } from "./metrics.ts";
import { NetFeature, VIRTIO_NET_ERR, VIRTIO_NET_OK } from "./protocol.ts";
import { type FilterState, RxFilter } from "./rx_filter.ts";

/** What a {@linkcode ControlQueue} works with. */
export interface ControlParts {
  readonly context: DeviceContext;
  readonly config: ConfigSpace;
  readonly metrics: NetMetrics;
  /** Number of queue pairs of the device. */
  readonly pairs: number;
  /** The number of pairs in use may be another one. */
  readonly pairsChanged: () => void;
  /** The driver takes other frames unfinished: a set of `Offload`. */
  readonly useOffloads: (offloads: number) => void;
}

/** What the object with the queue tells the others. */
interface ControlState {
  readonly driver: number;
  readonly runs: boolean;
  readonly controlled: boolean;
  readonly pairs: number;
  readonly offloads: number;
  readonly mac: Uint8Array;
  readonly filter: FilterState;
  /** The driver has just announced itself. */
  readonly announced: boolean;
}

/** A command that was carried out here, and waits until others know. */
interface Waiting {
  readonly queue: VirtQueue;
  readonly chain: DescriptorChain;
}

/** The control queue of a network device. */
export class ControlQueue implements Controlled {
  readonly pairs: number;
  readonly filter: RxFilter = new RxFilter();
  negotiated = 0n;
  readonly #parts: ControlParts;
  /** The queue runs, here or in another object: commands say what is used. */
  #runs = false;
  /** Pairs that the driver said it uses; 0: it did not say. */
  #askedPairs = 0;
  #offloads = 0;
  /** True once a command came: no front-end answers the queue for us. */
  #controlled = false;
  /** It is known whether the queue is a new driver's. */
  #judged = false;
  #announced = false;
  #waiting: Waiting | null = null;
  /** Grows when there may be another driver. */
  #driver = 0;

  /** Makes the state of a driver that has said nothing yet. */
  constructor(parts: ControlParts) {
    this.#parts = parts;
    this.pairs = parts.pairs;
  }

  /**
   * Most pairs that the driver may be using: those that it asked for, and one
   * until it does. Where the front-end answers commands and starts those pairs
   * alone that are used, it is all of them.
   */
  get pairLimit(): number {
    if (this.#askedPairs > 0) return this.#askedPairs;
    return this.#runs ? 1 : this.pairs;
  }

  /** The driver owns the queue and knows how to announce itself. */
  get canAnnounce(): boolean {
    return this.#controlled &&
      hasFeature(this.negotiated, NetFeature.GUEST_ANNOUNCE);
  }

  /** Rings are about to run. */
  activate(): void {
    this.#judged = false;
  }

  /** The queue is about to run. */
  start(): void {
    this.#setRunning(true);
  }

  /** The queue is about to stop: what waits is answered. */
  quiesce(): void {
    if (this.#waiting !== null) this.#finish(this.#waiting, true);
    this.#waiting = null;
    this.#setRunning(false);
  }

  /** Forgets what a driver has said. */
  forget(): void {
    const { config, pairsChanged } = this.#parts;
    this.#askedPairs = 0;
    this.#controlled = false;
    config.announcing = false;
    this.filter.reset();
    this.filter.setMac(config.mac);
    this.#useOffloads(guestOffloads(this.negotiated));
    pairsChanged();
  }

  /**
   * There may be another driver. All objects of the device are told so by the
   * host; what was told between them for the one before counts no more.
   */
  renew(): void {
    this.#driver++;
    this.forget();
  }

  /** The device is reset: no ring runs, in whatever object. */
  reset(): void {
    this.negotiated = 0n;
    this.#runs = false;
    this.renew();
  }

  /** As {@linkcode VirtioDevice.serve}. */
  serve(queue: VirtQueue, budget: number): boolean {
    this.#judge(queue);
    for (let i = 0; i < budget; i++) {
      if (this.#waiting !== null) return false;
      const chain = queue.take();
      if (chain === null) break;
      const done = this.#run(chain);
      if (done && this.#share({ queue, chain })) return false;
      this.#finish({ queue, chain }, done);
    }
    return true;
  }

  /** What the object with the queue told. */
  hear(state: ControlState): void {
    if (state.driver !== this.#driver) return;
    const { config, context, pairsChanged } = this.#parts;
    this.#runs = state.runs;
    this.#controlled = state.controlled;
    this.#askedPairs = state.pairs;
    this.filter.restore(state.filter);
    this.#useOffloads(state.offloads);
    const moved = state.mac.some((byte, i) => byte !== config.mac[i]);
    if (moved) config.writeMac(0, state.mac);
    this.filter.setMac(config.mac);
    if (state.announced) config.announcing = false;
    if (moved || state.announced) context.configChanged();
    pairsChanged();
  }

  // --- Controlled ---

  setMac(mac: Uint8Array): void {
    const { config, context } = this.#parts;
    config.writeMac(0, mac);
    this.filter.setMac(mac);
    context.configChanged();
  }

  setPairs(pairs: number): void {
    this.#askedPairs = pairs;
    this.#parts.pairsChanged();
  }

  setGuestOffloads(bits: number): boolean {
    const asked = BigInt(bits);
    const known = this.negotiated & ((1n << 32n) - 1n);
    const wanted = guestOffloads(asked);
    if ((asked & ~known) !== 0n || (asked !== 0n && wanted === 0)) return false;
    this.#useOffloads(wanted);
    return true;
  }

  announced(): void {
    const { config, context } = this.#parts;
    config.announcing = false;
    this.#announced = true;
    context.configChanged();
  }

  #setRunning(runs: boolean): void {
    this.#runs = runs;
    if (runs) this.#parts.pairsChanged();
    this.#share(null);
  }

  #useOffloads(offloads: number): void {
    this.#offloads = offloads;
    this.#parts.useOffloads(offloads);
  }

  #judge(queue: VirtQueue): void {
    if (this.#judged) return;
    const chain = queue.take();
    if (chain === null) return;
    const { position } = chain;
    queue.untake(chain);
    this.#judged = true;
    if (position !== 0) return;
    this.forget();
    this.#share(null);
  }

  #run(chain: DescriptorChain): boolean {
    if (!this.#controlled) {
      this.#controlled = true;
      if (hasFeature(this.negotiated, NetFeature.CTRL_VLAN)) {
        this.filter.filterVlans();
      }
    }
    this.#announced = false;
    const done = !chain.truncated && runCommand(chain, this);
    this.#parts.metrics.commands++;
    if (!done) this.#parts.metrics.refusedCommands++;
    return done;
  }

  #finish({ queue, chain }: Waiting, done: boolean): void {
    const answer = done ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    queue.complete(chain, chain.writeUint8(0, answer) ? 1 : 0);
  }

  /**
   * Tells the other objects of the device.
   *
   * @param waiting what is to be answered when they know
   * @returns false when there are no others
   */
  #share(waiting: Waiting | null): boolean {
    const { context } = this.#parts;
    if (context.tellOthers === undefined) return false;
    const state: ControlState = {
      driver: this.#driver,
      runs: this.#runs,
      controlled: this.#controlled,
      pairs: this.#askedPairs,
      offloads: this.#offloads,
      mac: this.#parts.config.mac.slice(),
      filter: this.filter.save(),
      announced: this.#announced,
    };
    if (waiting !== null) this.#waiting = waiting;
    context.tellOthers(state, () => {
      if (waiting === null || this.#waiting !== waiting) return;
      this.#waiting = null;
      this.#finish(waiting, true);
      context.resume(waiting.queue);
    });
    return true;
  }
}
