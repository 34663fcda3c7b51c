/**
 * virtio_balloon(4), function by function.
 *
 * Theory of operation: the methods are those of
 * `sys/dev/virtio/balloon/virtio_balloon.c` under their names without the prefix
 * `vtballoon_`. The driver has a thread that compares `num_pages` with what it
 * has, and moves at most 256 pages at a time: it lists them in one buffer, sleeps
 * until that comes back, and writes `actual`. Both queues call the same handler,
 * which wakes the thread and never enables interrupts again: under MSI-X, whose
 * filter disables them, they stay off after the first one.
 *
 * The thread runs where {@linkcode Vtballoon.thread} is called, until it would
 * sleep for a change of the configuration, or for memory.
 *
 * @module
 */

import {
  hasFeature,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import { FreeBsdErrno, kassert, PAGE_SIZE } from "../freebsd/kernel.ts";
import { SgList } from "../freebsd/memory.ts";
import type { VirtioChild, VirtioPci } from "../freebsd/virtio_pci.ts";
import type { Virtqueue } from "../freebsd/virtqueue.ts";
import type { VtballoonProfile } from "./profiles.ts";

/** `VTBALLOON_PAGES_PER_REQUEST`. */
export const PAGES_PER_REQUEST = 256;
/** `offsetof(struct virtio_balloon_config, …)`. */
const NUM_PAGES = 0, ACTUAL = 4;

type Queue = Virtqueue<unknown>;

/** `struct vtballoon_softc`. */
export class Vtballoon implements VirtioChild {
  readonly name = "vtballoon0";
  /** The release of the driver. */
  readonly profile: VtballoonProfile;
  /** `vtballoon_pages`: their physical addresses, oldest first. */
  readonly pages: number[] = [];
  /** `vtballoon_desired_npages`: `dev.vtballoon.0.desired`. */
  desired = 0;
  /** `vtballoon_current_npages`: `dev.vtballoon.0.current`. */
  current = 0;
  /** `vtballoon_timeout` is set: there was no memory. */
  lowMemory = false;
  /** Requests that were sent. */
  requests = 0;
  /** Called after each request, with the thread awake. */
  onRequest: () => void = () => {};
  /** Free pages that the kernel keeps (`vm_page_alloc` fails below that). */
  reserve = 0;
  #bus!: VirtioPci;
  #features = 0n;
  #frames = 0;
  #queues: Queue[] = [];

  /** A driver that probed. */
  constructor(profile: VtballoonProfile) {
    this.profile = profile;
  }

  /** `vtballoon_feature_desc`. */
  get featureNames(): VtballoonProfile["featureNames"] {
    return this.profile.featureNames;
  }

  /** `vtballoon_inflate_vq`. */
  get inflateQueue(): Queue {
    return this.#queues[0];
  }

  /** `vtballoon_deflate_vq`. */
  get deflateQueue(): Queue {
    return this.#queues[1];
  }

  /** `vtballoon_attach`, up to the start of the thread. */
  async attach(bus: VirtioPci): Promise<number> {
    this.#bus = bus;
    this.#features = await bus.negotiateFeatures(this.profile.features);
    if (await bus.finalizeFeatures() !== 0) return FreeBsdErrno.ENOTSUP;
    this.#frames = bus.memory.malloc(PAGES_PER_REQUEST * 4);
    const queues = await this.#allocVirtqueues();
    if (typeof queues === "number") return queues;
    this.#queues = queues;
    await bus.setupIntr();
    this.inflateQueue.enableIntr();
    this.deflateQueue.enableIntr();
    return 0;
  }

  /** `vtballoon_detach`. */
  async detach(): Promise<void> {
    // The thread is not running: it saw VTBALLOON_FLAG_DETACH.
    if (this.#bus.attached) {
      await this.#pop();
      await this.#stop();
    }
    if (this.#frames !== 0) {
      this.#bus.memory.mfree(this.#frames, PAGES_PER_REQUEST * 4);
    }
    this.#frames = 0;
  }

  /** `vtballoon_config_change`: wakes the thread. */
  async configChange(): Promise<void> {
    await this.thread();
  }

  /**
   * `vtballoon_thread`, until it sleeps: for a change, or `hz` ticks for memory.
   *
   * @param most requests to make at most, as if it was not scheduled again
   */
  async thread(most = Infinity): Promise<void> {
    for (let i = 0; i < most; i++) {
      this.desired = await this.#desiredSize();
      const { desired, current } = this;
      const timeout = this.lowMemory;
      this.lowMemory = false;
      if (desired === current || (desired > current && timeout)) return;
      if (desired > current) await this.#inflate(desired - current);
      else await this.#deflate(current - desired);
      await this.#updateSize();
    }
  }

  /** `vtballoon_alloc_virtqueues`. */
  #allocVirtqueues(): Promise<Queue[] | number> {
    // vtballoon_vq_intr wakes the thread, which looks for itself.
    const interrupt = (): void => {};
    return this.#bus.allocVirtqueues<unknown>(
      ["inflate", "deflate"].map((name) => ({
        name: `${this.name} ${name}`,
        maxIndirect: 0,
        interrupt,
      })),
    );
  }

  /** `vtballoon_inflate`. */
  async #inflate(wanted: number): Promise<void> {
    const frames: number[] = [];
    while (frames.length < Math.min(wanted, PAGES_PER_REQUEST)) {
      const page = this.#allocPage();
      if (page === null) {
        this.lowMemory = true;
        break;
      }
      frames.push(page / PAGE_SIZE);
      this.pages.push(page);
    }
    if (frames.length > 0) await this.#sendFrames(this.inflateQueue, frames);
  }

  /** `vtballoon_deflate`. */
  async #deflate(wanted: number): Promise<void> {
    const count = Math.min(wanted, PAGES_PER_REQUEST);
    kassert(count <= this.pages.length, "no more pages to deflate");
    const freed = this.pages.splice(0, count);
    if (count > 0) {
      // The host is told before the pages are freed.
      await this.#sendFrames(
        this.deflateQueue,
        freed.map((page) => page / PAGE_SIZE),
      );
      for (const page of freed) {
        this.#bus.memory.contigfree(page, PAGE_SIZE);
        this.current--;
      }
    }
    kassert(
      (this.pages.length === 0) === (this.current === 0),
      `bogus page count ${this.current}`,
    );
  }

  /** `vtballoon_send_page_frames`. */
  async #sendFrames(queue: Queue, frames: readonly number[]): Promise<void> {
    const { ram } = this.#bus.memory;
    frames.forEach((frame, i) => ram.setUint32(this.#frames + 4 * i, frame));
    const sg = new SgList(1);
    kassert(
      sg.append(this.#frames, 4 * frames.length),
      "error adding page frames to sglist",
    );
    kassert(
      queue.enqueue(queue, sg, 1, 0) === 0,
      "error enqueuing page frames to virtqueue",
    );
    queue.notify();
    this.requests++;
    let response: unknown = null;
    await this.#bus.sleep(queue, () => {
      response = queue.dequeue()?.cookie ?? null;
      return response !== null;
    }, `request ${this.requests} of ${frames.length} pages`);
    kassert(response === queue, "unexpected balloon operation response");
    this.onRequest();
  }

  /** `vtballoon_pop`. */
  async #pop(): Promise<void> {
    while (this.pages.length > 0) await this.#deflate(this.current);
  }

  /** `vtballoon_stop`. */
  async #stop(): Promise<void> {
    this.inflateQueue.disableIntr();
    this.deflateQueue.disableIntr();
    await this.#bus.stop();
  }

  /** `vtballoon_alloc_page`. */
  #allocPage(): number | null {
    const { memory } = this.#bus;
    if (memory.free <= this.reserve) return null;
    this.current++;
    return memory.contigmalloc(PAGE_SIZE);
  }

  /** `vtballoon_desired_size`: legacy devices have little-endian fields, too. */
  async #desiredSize(): Promise<number> {
    const bytes = await this.#bus.readConfig(NUM_PAGES, 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  /** `vtballoon_update_size`. */
  async #updateSize(): Promise<void> {
    await this.#bus.writeConfig4(ACTUAL, this.current);
  }

  /** `vtballoon_modern`. */
  get modern(): boolean {
    return hasFeature(this.#features, VIRTIO_F_VERSION_1);
  }
}
