/**
 * The loop of a data Worker: it owns every ring of a device and sleeps in one
 * place.
 *
 * Theory of operation
 * -------------------
 * A ring is *active* while there may be work on it, and only active rings are
 * looked at. A kick, a start and {@linkcode DeviceContext.resume} activate it.
 * One turn does, in this order:
 *
 * 1. serve: each active ring gives up to {@linkcode BUDGET} chains to the
 *    device. Small batches beat draining the ring: the driver sees the first
 *    completions while we work on the next ones.
 * 2. poll: the device submits what it prepared and completes what is done.
 * 3. publish: completions become visible, then the driver is notified where it
 *    asked for it.
 *
 * A turn without progress prepares for sleep: notifications are enabled on each
 * active ring and the ring is looked at once more; one that stays empty and has
 * nothing in flight is no longer active. A ring that cannot be served although
 * chains wait (the device parked it, or all chain objects are in flight) keeps
 * notifications off, because a kick would change nothing.
 *
 * Before that it may look at the rings for a while ({@linkcode PollingGovernor}),
 * with notifications still off.
 *
 * Sleeping is one system call ({@linkcode Waiter}) over the kick descriptors
 * (edge-triggered, never read), the descriptors that the device watches, and the
 * control eventfd. A loop that does not get to sleep looks there now and then:
 * a kick for a ring that is not active must not wait for a busy one. The
 * main thread increments a shared counter before it signals that eventfd, so a
 * busy loop notices commands without a system call.
 *
 * Nothing here is concurrent: commands are handled between two calls of
 * {@linkcode DataLoop.run}.
 *
 * @module
 */

import { drainEventFd } from "../../sys/eventfd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { detachMemory, viewMemory } from "../../sys/mapping.ts";
import type { RingSetup } from "../../vhost/data_plane.ts";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
} from "../../virtqueue/constants.ts";
import type { VirtioDevice, VirtQueue } from "../../virtqueue/device.ts";
import { GuestMemory } from "../../virtqueue/memory.ts";
import { SplitQueue } from "../../virtqueue/split_queue.ts";
import type { RegionAddress } from "./messages.ts";
import { PollingGovernor } from "./polling.ts";
import { Ring } from "./ring.ts";
import { UringWaiter } from "./uring_waiter.ts";
import { EpollWaiter, type Waiter } from "./waiter.ts";

/** Chains that one ring may take in one turn. */
export const BUDGET = 8;
/** How long the loop sleeps at most while a ring without kick descriptor runs, in ms. */
const POLL_INTERVAL = 1;
/**
 * How long the loop sleeps at most, in ms. Then it looks at everything once: a
 * wake-up that got lost costs a second, and not the guest.
 */
const WATCHDOG = 1000;
/** Looks at the rings between two looks at the clock. */
const LOOKS = 8;
/** A busy loop looks at what would wake it once in so many turns. */
const LOOK_INTERVAL = 16;
const TOKEN_CONTROL = 0x1_0000;
const TOKEN_WATCH = 0x2_0000;

/** Runs the rings of one device. */
export class DataLoop implements Disposable {
  /** The guest's memory. */
  readonly memory: GuestMemory = new GuestMemory();
  #device: VirtioDevice | null = null;
  #features = 0n;
  readonly #slotsPerQueue: number;
  readonly #controlFd: number;
  readonly #posted: Int32Array;
  #waiter: Waiter;
  readonly #polling: PollingGovernor;
  #turns = 0;
  #disposed = false;
  readonly #rings = new Map<number, Ring>();
  readonly #active: Ring[] = [];
  readonly #watched = new Map<number, () => void>();
  #polledRings = 0;

  /**
   * @param controlFd eventfd that ends the sleep
   * @param posted shared counter of commands, see `messages.ts`
   * @param slotsPerQueue chain objects for each queue
   * @param waiter where to sleep (default: in epoll_wait)
   * @param polling how long to look before sleeping (default: not at all)
   */
  constructor(
    controlFd: number,
    posted: Int32Array,
    slotsPerQueue: number,
    waiter: Waiter = new EpollWaiter(),
    polling: PollingGovernor = new PollingGovernor("off"),
  ) {
    this.#polling = polling;
    this.#controlFd = controlFd;
    this.#posted = posted;
    this.#slotsPerQueue = slotsPerQueue;
    this.#waiter = waiter;
    waiter.add(controlFd, TOKEN_CONTROL);
  }

  /** Where the loop sleeps. */
  get waiter(): Waiter {
    return this.#waiter;
  }

  /**
   * The io_uring that the loop sleeps in from now on, for a device that has I/O
   * of its own; `null` where there is no io_uring. To be called before the first
   * ring starts.
   */
  useRing(): IoUring | null {
    if (this.#waiter.ring !== null || !IoUring.supported()) {
      return this.#waiter.ring;
    }
    const waiter = new UringWaiter();
    waiter.add(this.#controlFd, TOKEN_CONTROL);
    this.#waiter[Symbol.dispose]();
    this.#waiter = waiter;
    return waiter.ring;
  }

  /** The device; set once, before the first ring starts. */
  get device(): VirtioDevice {
    if (this.#device === null) throw new Error("The loop has no device yet");
    return this.#device;
  }

  set device(device: VirtioDevice) {
    this.#device = device;
  }

  /** Rings that run, by index. */
  get rings(): ReadonlyMap<number, Ring> {
    return this.#rings;
  }

  /** The driver acknowledged `features`: rings that start from now on follow them. */
  negotiate(features: bigint): void {
    this.#features = features;
    this.device.negotiate?.(features);
  }

  /** Maps a region into the guest memory of this thread. */
  addRegion(region: RegionAddress): void {
    const { guestAddress, size, hostAddress, backing } = region;
    const buffer = viewMemory(hostAddress, size);
    try {
      this.memory.add({ guestAddress, size, hostAddress, buffer, backing });
    } catch (error) {
      detachMemory(buffer);
      throw error;
    }
  }

  /** Forgets a region: nothing in this thread refers to it afterwards. */
  removeRegion(region: RegionAddress): void {
    for (const ring of this.#rings.values()) this.#drain(ring);
    detachMemory(this.memory.remove(region.guestAddress, region.size));
    for (const ring of this.#rings.values()) {
      ring.queue.rebind();
      this.#activate(ring);
    }
  }

  /** Starts a ring and looks at it, kicked or not. */
  startRing(setup: RingSetup): void {
    if (this.#rings.has(setup.index)) {
      throw new Error(`Ring ${setup.index} runs already`);
    }
    const { index, position } = setup;
    const queue = new SplitQueue({
      index,
      size: setup.size,
      memory: this.memory,
      descriptorTable: setup.descriptorTable,
      availableRing: setup.availableRing,
      usedRing: setup.usedRing,
      position,
      eventIdx: (this.#features & bit(VIRTIO_F_EVENT_IDX)) !== 0n,
      indirect: (this.#features & bit(VIRTIO_F_INDIRECT_DESC)) !== 0n,
      maxSegments: this.device.maxSegments,
      slots: this.#slotsPerQueue,
      slotBase: index * this.#slotsPerQueue,
    });
    if (setup.kickFd >= 0) this.#waiter.add(setup.kickFd, index);
    else this.#polledRings++;
    const ring = new Ring(queue, setup, this.#waiter);
    this.#rings.set(index, ring);
    this.#activate(ring);
    // A predecessor may have died between publishing and notifying: one
    // notification too many is harmless, one too few stalls the driver.
    if (position !== 0) ring.notify();
    this.#waiter.flush();
  }

  /**
   * Drains a ring and stops it.
   *
   * @returns where to go on in the available ring
   */
  stopRing(index: number): number {
    const ring = this.#ring(index);
    this.#drain(ring);
    if (ring.kickFd >= 0) this.#waiter.remove(ring.kickFd);
    else this.#polledRings--;
    this.#waiter.flush();
    this.#rings.delete(index);
    this.#deactivate(ring);
    return ring.queue.position;
  }

  /** Replaces the used-buffer notification descriptor. */
  setCall(index: number, fd: number): void {
    this.#ring(index).callFd = fd;
    this.#waiter.flush();
  }

  /** Replaces the error descriptor. */
  setError(index: number, fd: number): void {
    this.#ring(index).errorFd = fd;
    this.#waiter.flush();
  }

  /** See {@linkcode DeviceContext.resume}. */
  resume(queue: VirtQueue): void {
    const ring = this.#rings.get(queue.index);
    if (ring !== undefined) this.#activate(ring);
  }

  /** See {@linkcode DeviceContext.watch}. */
  watch(fd: number, ready: (() => void) | null): void {
    if (this.#watched.has(fd)) this.#waiter.remove(fd);
    this.#watched.delete(fd);
    if (ready === null) return;
    this.#waiter.add(fd, TOKEN_WATCH + fd);
    this.#watched.set(fd, ready);
  }

  /**
   * Serves until a command was posted.
   *
   * @param handled number of commands that were handled so far
   * @param once return after one turn and one sleep of at most 1 ms: somebody
   * waits for JavaScript's own event loop
   */
  run(handled: number, once = false): void {
    this.#publish();
    while (Atomics.load(this.#posted, 0) === handled) {
      if (this.#turn()) {
        // Others must not wait for a ring that is always busy.
        if (++this.#turns % LOOK_INTERVAL === 0) this.#sleep(0);
      } else if (!this.#look(handled)) {
        if (!this.#rearm()) this.#sleep(once ? 1 : -1);
        this.#disarm();
      }
      if (once) break;
    }
    this.#waiter.flush();
  }

  /** Drains and stops every ring. */
  stopRings(): void {
    for (const index of [...this.#rings.keys()]) this.stopRing(index);
  }

  /** Stops every ring and gives the descriptors of the loop back. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.stopRings();
    for (const fd of [...this.#watched.keys()]) this.watch(fd, null);
    this.#waiter[Symbol.dispose]();
  }

  /** One turn; true when there was progress. */
  #turn(): boolean {
    const active = this.#active, device = this.#device!;
    let progress = false;
    for (let i = 0; i < active.length; i++) {
      const ring = active[i];
      if (!ring.parked && ring.queue.ready) {
        // Before: the device may resume the ring while it serves it.
        ring.parked = true;
        if (device.serve(ring.queue, BUDGET)) ring.parked = false;
        progress = true;
      }
    }
    if (device.poll !== undefined && device.poll() > 0) progress = true;
    for (let i = 0; i < active.length; i++) active[i].publish();
    return progress;
  }

  /** Looks at the active rings for a while; true when there is something to do. */
  #look(handled: number): boolean {
    const polling = this.#polling;
    if (!polling.enabled || this.#active.length === 0) return false;
    let now = performance.now();
    const end = now + polling.window(now);
    // What a turn prepared must not wait while the CPU does nothing else.
    if (now < end) this.#waiter.flush();
    for (let round = 1; now < end; round++) {
      for (let i = 0; i < LOOKS; i++) {
        if (this.#waiter.ready) {
          this.#sleep(0);
          return true;
        }
        if (this.#pending(handled)) return true;
      }
      // A kick for a ring that is not active must not wait either.
      if (round % LOOK_INTERVAL === 0) {
        this.#sleep(0);
        this.#publish();
      }
      const last = now;
      now = performance.now();
      if (polling.gap(now, now - last)) return false;
    }
    return false;
  }

  /** Whether something came that a turn, or the caller, would deal with. */
  #pending(handled: number): boolean {
    const active = this.#active;
    if (Atomics.load(this.#posted, 0) !== handled) return true;
    for (let i = 0; i < active.length; i++) {
      if (!active[i].parked && active[i].queue.ready) return true;
    }
    return false;
  }

  /** Prepares for sleep; true when there is something to do instead. */
  #rearm(): boolean {
    const active = this.#active;
    let again = false;
    for (let i = active.length - 1; i >= 0; i--) {
      const ring = active[i], queue = ring.queue;
      // What ended while the loop was looking must not wait for its sleep.
      ring.publish();
      const blocked = ring.parked || (queue.available && !queue.ready);
      if (!blocked && queue.enableNotification()) again = true;
      else {
        // The look may have found the ring broken, after its last publication.
        if (queue.broken !== null) ring.publish();
        if (queue.inFlight === 0) this.#deactivate(ring);
      }
    }
    return again;
  }

  /** Rings that are still active need no notifications again. */
  #disarm(): void {
    const active = this.#active;
    for (let i = 0; i < active.length; i++) {
      active[i].queue.disableNotification();
    }
  }

  #sleep(limit: number): void {
    const longest = limit < 0 ? WATCHDOG : limit;
    const timeout = this.#polledRings > 0 && limit !== 0
      ? POLL_INTERVAL
      : longest;
    const measured = this.#polling.enabled && limit !== 0;
    const start = measured ? performance.now() : 0;
    const count = this.#waiter.wait(timeout);
    if (measured) this.#polling.slept(performance.now() - start);
    let called = false;
    for (let i = 0; i < count; i++) {
      const token = this.#waiter.token(i);
      if (token === TOKEN_CONTROL) {
        drainEventFd(this.#controlFd);
      } else if (token >= TOKEN_WATCH) {
        this.#watched.get(token - TOKEN_WATCH)?.();
        called = true;
      } else {
        this.#kicked(token);
      }
    }
    if (called) this.#publish();
    if (this.#polledRings > 0) this.#activatePolled();
    if (count === 0 && limit < 0) {
      for (const ring of this.#rings.values()) this.#activate(ring);
    }
  }

  /** Publishes what was completed outside of a turn, on whatever ring. */
  #publish(): void {
    for (const ring of this.#rings.values()) ring.publish();
  }

  #kicked(index: number): void {
    const ring = this.#rings.get(index);
    if (ring === undefined) return;
    ring.queue.counters.kicks++;
    this.#activate(ring);
  }

  #activatePolled(): void {
    for (const ring of this.#rings.values()) {
      if (ring.kickFd < 0) this.#activate(ring);
    }
  }

  #activate(ring: Ring): void {
    ring.parked = false;
    if (ring.active) return;
    ring.active = true;
    ring.queue.disableNotification();
    this.#active.push(ring);
  }

  #deactivate(ring: Ring): void {
    if (!ring.active) return;
    ring.active = false;
    const last = this.#active.pop()!;
    if (last !== ring) this.#active[this.#active.indexOf(ring)] = last;
  }

  /** Waits until the device has nothing of this ring any more. */
  #drain(ring: Ring): void {
    const device = this.device;
    device.quiesce?.(ring.queue);
    while (ring.queue.inFlight > 0) {
      const progress = device.poll !== undefined && device.poll() > 0;
      ring.publish();
      if (!progress && ring.queue.inFlight > 0) this.#sleep(POLL_INTERVAL);
    }
    ring.publish();
  }

  #ring(index: number): Ring {
    const ring = this.#rings.get(index);
    if (ring === undefined) throw new Error(`Ring ${index} does not run`);
    return ring;
  }
}

function bit(number: number): bigint {
  return 1n << BigInt(number);
}
