/**
 * A device in a data loop: its memory, its rings and what it watches.
 *
 * Theory of operation
 * -------------------
 * A ring is *active* while there may be work on it, and only active rings are
 * looked at. A kick, a start and {@linkcode DeviceContext.resume} activate it.
 *
 * Before the loop sleeps, notifications are enabled on each active ring and the
 * ring is looked at once more; one that stays empty and has nothing in flight is
 * no longer active. A ring that cannot be served although chains wait (the
 * device parked it, or all chain objects are in flight) keeps notifications off,
 * because a kick would change nothing.
 *
 * A ring stops when nothing of it is in flight any more, or, where that is agreed,
 * when nobody works on what is. Until then the loop turns: this device gets no new
 * chains, the others go on.
 *
 * Where writes are logged ({@linkcode DirtyLog}), queues do that. Logging begins,
 * ends and goes elsewhere between two turns, so no ring has to stop for it: a
 * chain that is in flight is logged in the log of the time at which it ends.
 *
 * @module
 */

import { signalEventFd } from "../../sys/eventfd.ts";
import { detachMemory, viewMemory } from "../../sys/mapping.ts";
import type { MappedLog, RingSetup } from "../../vhost/data_plane.ts";
import {
  hasFeature,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "../../virtqueue/constants.ts";
import type {
  LogLevel,
  VirtioDevice,
  VirtQueue,
} from "../../virtqueue/device.ts";
import { DirtyLog } from "../../virtqueue/dirty_log.ts";
import { SplitInflight } from "../../virtqueue/inflight.ts";
import { GuestMemory } from "../../virtqueue/memory.ts";
import { PackedInflight } from "../../virtqueue/packed_inflight.ts";
import { PackedQueue } from "../../virtqueue/packed_queue.ts";
import { SplitQueue } from "../../virtqueue/split_queue.ts";
import type { DataLoop } from "./data_loop.ts";
import type { RegionAddress } from "./messages.ts";
import { BUDGET, Ring } from "./ring.ts";
import { drain, suspend } from "./ring_end.ts";

/** The place of one device in a {@linkcode DataLoop}. */
export class HostedDevice implements Disposable {
  /** The guest's memory. */
  readonly memory: GuestMemory = new GuestMemory();
  /** Takes what is to be logged. */
  log: (level: LogLevel, message: string) => void = () => {};
  readonly #loop: DataLoop;
  readonly #slotsPerQueue: number;
  readonly #forget: () => void;
  #device: VirtioDevice | null = null;
  #budget = BUDGET;
  #features = 0n;
  /** In the order in which they started. The loop counts: iterators are garbage. */
  readonly #rings: Ring[] = [];
  readonly #active: Ring[] = [];
  /** Tokens of what the device watches, by descriptor. */
  readonly #watched = new Map<number, number>();
  #polledRings = 0;
  /** Where writes are logged, and the memory that it has; `null`: nowhere. */
  #dirtyLog: DirtyLog | null = null;
  #logMemory: ArrayBuffer | null = null;
  /** Signalled when the log was written; -1: nobody listens. */
  #logFd = -1;
  #called = false;
  #disposed = false;

  /** Made by {@linkcode DataLoop.host}. */
  constructor(loop: DataLoop, slotsPerQueue: number, forget: () => void) {
    this.#loop = loop;
    this.#slotsPerQueue = slotsPerQueue;
    this.#forget = forget;
  }

  /** The device; set once, before the first ring starts. */
  get device(): VirtioDevice {
    if (this.#device === null) throw new Error("There is no device here yet");
    return this.#device;
  }

  set device(device: VirtioDevice) {
    this.#device = device;
    this.#budget = device.chainsPerTurn ?? BUDGET;
  }

  /** Rings that run, in the order in which they started. */
  get rings(): readonly Ring[] {
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
    for (const ring of this.#rings) this.#end(ring);
    detachMemory(this.memory.remove(region.guestAddress, region.size));
    for (const ring of this.#rings) {
      ring.queue.rebind();
      this.device.start?.(ring.queue);
      this.#activate(ring);
    }
  }

  /** Starts a ring and looks at it, kicked or not. */
  startRing(setup: RingSetup): void {
    if (this.#find(setup.index) !== undefined) {
      throw new Error(`Ring ${setup.index} runs already`);
    }
    const { kickFd } = setup;
    const tracked = setup.inflight
      ? viewMemory(setup.inflight.address, setup.inflight.size)
      : null;
    let ring: Ring;
    let kickToken = -1;
    try {
      ring = new Ring(this.#queueOf(setup, tracked), setup, this.#loop);
      ring.tracked = tracked;
      ring.queue.logWrites(this.#dirtyLog, ring.usedLog);
      if (kickFd >= 0) {
        kickToken = this.#loop.watch(kickFd, () => this.#kicked(ring));
        ring.kickToken = kickToken;
      }
      // Last: the device may work with a ring that it was told of.
      this.device.start?.(ring.queue);
    } catch (error) {
      if (kickToken >= 0) this.#loop.unwatch(kickToken);
      if (tracked !== null) detachMemory(tracked);
      throw error;
    }
    if (kickFd < 0) this.#polledRings++;
    this.#rings.push(ring);
    this.#activate(ring);
    // A predecessor may have died between publishing and notifying: one
    // notification too many is harmless, one too few stalls the driver.
    // A tracked packed ring may be anywhere, also back at its start.
    const anywhere = tracked !== null &&
      hasFeature(this.#features, VIRTIO_F_RING_PACKED);
    if (ring.queue.position !== 0 || anywhere) ring.notify();
    this.#loop.waiter.flush();
  }

  #queueOf(
    setup: RingSetup,
    tracked: ArrayBuffer | null,
  ): SplitQueue | PackedQueue {
    const { index, size, descriptorTable, availableRing, usedRing, position } =
      setup;
    const options = {
      index,
      size,
      memory: this.memory,
      descriptorTable,
      availableRing,
      usedRing,
      position,
      eventIdx: hasFeature(this.#features, VIRTIO_F_EVENT_IDX),
      indirect: hasFeature(this.#features, VIRTIO_F_INDIRECT_DESC),
      inOrder: hasFeature(this.#features, VIRTIO_F_IN_ORDER),
      maxSegments: this.device.maxSegments,
      alwaysNotify: this.device.alwaysNotify,
      slots: this.#slotsPerQueue,
      slotBase: index * this.#slotsPerQueue,
    };
    const area = tracked === null ? null : new Uint8Array(tracked);
    const heads = setup.inflight?.heads ?? 0;
    if (hasFeature(this.#features, VIRTIO_F_RING_PACKED)) {
      const inflight = area === null ? null : new PackedInflight(area, heads);
      return new PackedQueue({ ...options, inflight });
    }
    const inflight = area === null ? null : new SplitInflight(area, heads);
    return new SplitQueue({ ...options, inflight });
  }

  /**
   * Stops a ring when nothing works on its requests any more.
   *
   * @param suspend what is in flight may stay so, where the device can give it up;
   * else it is done first. The ring is then tracked
   * @returns where to go on, see {@linkcode RunningQueue.base}
   */
  stopRing(index: number, suspend = false): number {
    const ring = this.#ring(index);
    const leaves = suspend && this.device.suspend !== undefined;
    this.#end(ring, leaves);
    if (ring.kickFd >= 0) this.#loop.unwatch(ring.kickToken);
    else this.#polledRings--;
    this.#loop.waiter.flush();
    this.#rings.splice(this.#rings.indexOf(ring), 1);
    this.#deactivate(ring);
    if (ring.tracked !== null) detachMemory(ring.tracked);
    return leaves ? ring.queue.suspendedBase : ring.queue.base;
  }

  /** Drains and stops every ring. */
  stopRings(): void {
    for (const { queue } of [...this.#rings]) this.stopRing(queue.index);
  }

  /**
   * Replaces the used-buffer notification descriptor, and signals the new one:
   * what was said to the old one may have reached nobody, and a driver that waits
   * for it would wait for ever.
   */
  setCall(index: number, fd: number): void {
    const ring = this.#ring(index);
    ring.callFd = fd;
    ring.notify();
    this.#loop.waiter.flush();
  }

  /** Logs writes from now on, or no more; nothing refers to the log of before. */
  logWrites(area: MappedLog | null): void {
    const before = this.#logMemory;
    const lost = this.#dirtyLog?.lost ?? 0;
    if (lost > 0) this.log("warn", `${lost} writes lay outside of the log`);
    this.#logMemory = area && viewMemory(area.address, area.size);
    this.#dirtyLog = this.#logMemory &&
      new DirtyLog(new Uint8Array(this.#logMemory));
    for (const ring of this.#rings) {
      ring.queue.logWrites(this.#dirtyLog, ring.usedLog);
    }
    if (before !== null) detachMemory(before);
    if ((before !== null) !== (area !== null)) {
      this.device.logWrites?.(area !== null);
    }
    this.#tellOfLog();
  }

  /** Logs the used ring at an address from now on; -1: no more. */
  setUsedLog(index: number, address: number): void {
    const ring = this.#ring(index);
    ring.usedLog = address;
    ring.queue.logWrites(this.#dirtyLog, address);
    this.#tellOfLog();
  }

  /** Replaces the descriptor that is signalled when the log was written. */
  setLogFd(fd: number): void {
    this.#logFd = fd;
  }

  /** Signals whoever wants to know that the log was written. */
  #tellOfLog(): void {
    const log = this.#dirtyLog;
    if (log === null || !log.changed) return;
    log.changed = false;
    if (this.#logFd >= 0) signalEventFd(this.#logFd);
  }

  /** Replaces the error descriptor. */
  setError(index: number, fd: number): void {
    this.#ring(index).errorFd = fd;
    this.#loop.waiter.flush();
  }

  /** See {@linkcode DeviceContext.resume}. */
  resume(queue: VirtQueue): void {
    const ring = this.#find(queue.index);
    if (ring !== undefined && ring.queue === queue) this.#activate(ring);
  }

  /** See {@linkcode DeviceContext.watch}. */
  watch(fd: number, ready: (() => void) | null): void {
    const token = this.#watched.get(fd);
    if (token !== undefined) this.#loop.unwatch(token);
    this.#watched.delete(fd);
    if (ready === null) return;
    const call = (): void => {
      this.#called = true;
      ready();
    };
    this.#watched.set(fd, this.#loop.watch(fd, call));
  }

  // What the loop asks for, in each turn.

  /** Gives the device chains of its active rings; true when there were any. */
  serve(): boolean {
    const active = this.#active;
    let progress = false;
    for (let i = 0; i < active.length; i++) {
      const ring = active[i];
      if (!ring.parked && ring.queue.ready) {
        // Before: the device may resume the ring while it serves it.
        ring.parked = true;
        if (this.#device!.serve(ring.queue, this.#budget)) ring.parked = false;
        progress = true;
      }
    }
    return progress;
  }

  /** Lets the device move on; true when it completed something. */
  poll(): boolean {
    const device = this.#device;
    return device !== null && device.poll !== undefined && device.poll() > 0;
  }

  /** Publishes what was completed on active rings. */
  publishActive(): void {
    const active = this.#active;
    for (let i = 0; i < active.length; i++) active[i].publish();
    if (this.#dirtyLog !== null) this.#tellOfLog();
  }

  /** Publishes what was completed on any ring. */
  publish(): void {
    const rings = this.#rings;
    for (let i = 0; i < rings.length; i++) rings[i].publish();
    if (this.#dirtyLog !== null) this.#tellOfLog();
  }

  /** Whether a ring is active. */
  get active(): boolean {
    return this.#active.length > 0;
  }

  /** Whether a ring runs that has no kick descriptor. */
  get pollsRings(): boolean {
    return this.#polledRings > 0;
  }

  /** Whether an active ring has chains that can be served. */
  get pending(): boolean {
    const active = this.#active;
    for (let i = 0; i < active.length; i++) {
      if (!active[i].parked && active[i].queue.ready) return true;
    }
    return false;
  }

  /** Prepares for sleep; true when there is something to do instead. */
  rearm(): boolean {
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
    if (this.#dirtyLog !== null) this.#tellOfLog();
    return again;
  }

  /** Rings that are still active need no notifications again. */
  disarm(): void {
    const active = this.#active;
    for (let i = 0; i < active.length; i++) {
      active[i].queue.disableNotification();
    }
  }

  /** The loop has slept, and told of what woke it. */
  woken(): void {
    if (this.#called) {
      this.#called = false;
      this.publish();
    }
    if (this.#polledRings > 0) {
      const rings = this.#rings;
      for (let i = 0; i < rings.length; i++) {
        if (rings[i].kickFd < 0) this.#activate(rings[i]);
      }
    }
  }

  /**
   * Has every ring looked at that waits for a kick.
   *
   * @returns how many of them have chains that nothing told of
   */
  lookAtAll(): number {
    let found = 0;
    for (const ring of this.#rings) {
      if (ring.active || ring.parked) continue;
      if (ring.queue.ready) found++;
      this.#activate(ring);
    }
    return found;
  }

  /** Stops every ring, ends every watch and leaves the loop. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.stopRings();
    if (this.#logMemory !== null) detachMemory(this.#logMemory);
    this.#dirtyLog = this.#logMemory = null;
    for (const fd of [...this.#watched.keys()]) this.watch(fd, null);
    this.#forget();
  }

  #kicked(ring: Ring): void {
    ring.queue.counters.kicks++;
    this.#activate(ring);
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
  #end(ring: Ring, leaves = false): void {
    const { device, log } = this;
    const place = { device, log, turn: () => this.#loop.turnWithout(this) };
    if (leaves) suspend(ring, place);
    else drain(ring, place);
    this.#tellOfLog();
  }

  #find(index: number): Ring | undefined {
    const rings = this.#rings;
    for (let i = 0; i < rings.length; i++) {
      if (rings[i].queue.index === index) return rings[i];
    }
    return undefined;
  }

  #ring(index: number): Ring {
    const ring = this.#find(index);
    if (ring === undefined) throw new Error(`Ring ${index} does not run`);
    return ring;
  }
}
