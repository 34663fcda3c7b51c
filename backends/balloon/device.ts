/**
 * The virtio memory balloon.
 *
 * Theory of operation. The driver is asked, through `num_pages`, to put pages
 * into the balloon; it lists them in the inflate queue, and they go back to the
 * host before the request is answered: a driver may take a page out again as
 * soon as it likes. Pages that it lists in the deflate queue are its own again.
 * How many are in the balloon it says in `actual`.
 *
 * The queues of statistics and reports have numbers that depend on who counts:
 * the specification numbers them, drivers and front-ends close the gaps that
 * features leave. Behind inflate and deflate, queue 2 has statistics where
 * STATS_VQ was negotiated; any other queue that is started has reports, since
 * hints of free pages, the only other use, are not offered.
 *
 * The buffer with statistics is kept, and handed back to ask for new ones: when
 * the interval is over, or when somebody asks. It is not answered when the ring
 * stops: a ring that goes on brings it again.
 *
 * `actual` and `poison_val` are written in place, by another thread, and looked up
 * when they are needed: a driver writes `actual` after each of its requests, which
 * need not wake this one.
 *
 * Every answer is notified, because virtio_balloon(4) turns notifications off
 * under MSI-X and waits for them all the same.
 *
 * Source: virtio 1.4, section 5.5.
 *
 * @module
 */

import { TimerFd } from "../../sys/timer.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { hasFeature } from "../../virtqueue/constants.ts";
import type {
  DeviceContext,
  VirtioDevice,
  VirtQueue,
} from "../../virtqueue/device.ts";
import { BalloonMetrics, REFUSALS } from "./metrics.ts";
import type { ResolvedBalloonOptions } from "./options.ts";
import type { PageHost } from "./page_host.ts";
import {
  BALLOON_PAGE_SIZE,
  CONFIG_ACTUAL,
  CONFIG_NUM_PAGES,
  CONFIG_POISON_VAL,
  CONFIG_SIZE,
  decodeConfig,
  DEFLATE_QUEUE,
  INFLATE_QUEUE,
  QUEUE_COUNT,
  STATS_QUEUE,
  VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
  VIRTIO_BALLOON_F_MUST_TELL_HOST,
  VIRTIO_BALLOON_F_PAGE_POISON,
  VIRTIO_BALLOON_F_PAGE_REPORTING,
  VIRTIO_BALLOON_F_STATS_VQ,
  VIRTIO_ID_BALLOON,
} from "./protocol.ts";
import { Reclaimer } from "./reclaim.ts";
import { PageRequests, type Role } from "./requests.ts";
import { GuestStatistics } from "./statistics.ts";
import { BalloonTargetError, parseTarget } from "./target.ts";

/** Longest chain: reports of Linux have 32 descriptors. */
const MAX_SEGMENTS = 128;
/** How long a command waits for statistics, in ms. */
const STATS_PATIENCE = 1000;

/** A memory balloon. */
export class BalloonDevice implements VirtioDevice {
  readonly deviceId: number = VIRTIO_ID_BALLOON;
  readonly features: bigint;
  readonly queueCount: number = QUEUE_COUNT;
  readonly maxSegments: number = MAX_SEGMENTS;
  readonly alwaysNotify: boolean = true;
  readonly config: Uint8Array<SharedArrayBuffer> = new Uint8Array(
    new SharedArrayBuffer(CONFIG_SIZE),
  );
  readonly driverWords: readonly number[] = [CONFIG_ACTUAL, CONFIG_POISON_VAL];
  /** What was counted since the device was made. */
  readonly metrics: BalloonMetrics = new BalloonMetrics();
  readonly #view = new DataView(this.config.buffer);
  readonly #options: ResolvedBalloonOptions;
  readonly #context: DeviceContext;
  readonly #reclaimer: Reclaimer;
  readonly #requests: PageRequests;
  readonly #statistics = new GuestStatistics();
  readonly #timer: TimerFd | null;
  /** The buffer that asks for new statistics when it is handed back. */
  #statsChain: DescriptorChain | null = null;
  /** Whoever waits for new statistics. */
  #statsWaiters: (() => void)[] = [];
  #features = 0n;
  /** Whether `poison_val` counts. */
  #poisons = false;
  /** Where the rings stopped; -1: they run, or never ran. */
  readonly #stopped = new Int32Array(QUEUE_COUNT).fill(-1);
  /** A ring runs: what is in the balloon is known to be there. */
  #active = false;
  /** `actual` when the target was set. */
  #start = 0;

  /** Makes a balloon that gives pages to `host`. */
  constructor(
    options: ResolvedBalloonOptions,
    host: PageHost,
    context: DeviceContext,
  ) {
    this.#options = options;
    this.#context = context;
    this.features = options.features;
    this.#reclaimer = new Reclaimer(
      context.memory,
      host,
      this.metrics,
      (level, message) => context.log(level, message),
    );
    this.#requests = new PageRequests(this.#reclaimer, this.metrics);
    this.#timer = options.statsInterval > 0 &&
        hasFeature(options.features, VIRTIO_BALLOON_F_STATS_VQ)
      ? TimerFd.create()
      : null;
    this.#write(CONFIG_NUM_PAGES, options.pages);
  }

  negotiate(features: bigint): void {
    this.#features = features;
    this.#poisons = this.#has(VIRTIO_BALLOON_F_PAGE_POISON);
    this.#reclaimer.deferrable = this.#has(VIRTIO_BALLOON_F_MUST_TELL_HOST);
  }

  activate(): void {
    this.#active = true;
    this.#reclaimer.refresh();
    if (this.#timer === null) return;
    const timer = this.#timer;
    timer.set(this.#options.statsInterval * 1000);
    this.#context.watch(timer.fd, () => {
      timer.drain();
      this.#askForStatistics();
    });
  }

  /**
   * QEMU's generic device does not tell of a reset: after one, rings start where
   * they did not stop, and the balloon is empty.
   */
  start({ index, position }: Pick<VirtQueue, "index" | "position">): void {
    if (index > DEFLATE_QUEUE) return;
    const stopped = this.#stopped[index];
    if (stopped >= 0 && position !== stopped) this.#empty();
    this.#stopped[index] = -1;
  }

  serve(queue: VirtQueue, budget: number): boolean {
    const { index } = queue;
    if (index === STATS_QUEUE && this.#has(VIRTIO_BALLOON_F_STATS_VQ)) {
      this.#serveStatistics(queue, budget);
      return true;
    }
    const role = this.#roleOf(index);
    if (role === "report") this.#judgeReports();
    for (let i = 0; i < budget && !this.#requests.busy(index); i++) {
      const chain = queue.take();
      if (chain === null) break;
      if (role !== null) this.#requests.start(chain, role);
      else this.#refuse(chain);
    }
    return true;
  }

  poll(): number {
    this.#judgeReports();
    const steps = this.#requests.steps();
    return this.#active ? steps + this.#reclaimer.resume() : steps;
  }

  quiesce(queue: VirtQueue): void {
    this.#requests.giveBack(queue);
    this.#stopped[queue.index] = queue.position;
    if (this.#statsChain?.queue === queue) {
      queue.untake(this.#statsChain);
      this.#statsChain = null;
      this.#endWaiting();
    }
  }

  deactivate(): void {
    this.#active = false;
    if (this.#timer === null) return;
    this.#context.watch(this.#timer.fd, null);
    this.#timer.set(0);
  }

  reset(): void {
    this.negotiate(0n);
    this.#stopped.fill(-1);
    this.#empty();
    this.#write(CONFIG_POISON_VAL, 0);
  }

  logWrites(on: boolean): void {
    this.#reclaimer.inhibited = on;
  }

  /**
   * Serves the commands `balloon-set` (parameter `size`, see
   * {@linkcode parseTarget}), `status` and `stats`.
   *
   * @throws {BalloonTargetError} when the guest's memory cannot be that
   * @throws {Error} for any other command
   */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>> = {},
  ): Record<string, unknown> | Promise<Record<string, unknown>> {
    switch (name) {
      case "balloon-set":
        return this.#setTarget(parameters.size);
      case "status":
        return this.status();
      case "stats":
        return this.#askAndWait();
      default:
        throw new Error(
          `Cannot do "${name}": a balloon has the commands balloon-set, ` +
            "status and stats only",
        );
    }
  }

  /** All sizes in bytes; `progress` from 0 to 1. */
  status(): Record<string, unknown> {
    const { numPages, actual, poisonVal } = decodeConfig(this.config);
    const way = numPages - this.#start;
    const done = way === 0 ? 1 : (actual - this.#start) / way;
    const memory = this.#reclaimer.memorySize;
    const target = numPages * BALLOON_PAGE_SIZE;
    return {
      memory,
      guestTarget: Math.max(0, memory - target),
      target,
      actual: actual * BALLOON_PAGE_SIZE,
      reclaimed: this.#reclaimer.reclaimed,
      partial: this.#reclaimer.partial,
      progress: actual === numPages ? 1 : Math.min(Math.max(done, 0), 1),
      inhibited: this.#reclaimer.inhibited,
      waiting: this.#reclaimer.waiting,
      mustTellHost: this.#has(VIRTIO_BALLOON_F_MUST_TELL_HOST),
      deflateOnOom: this.#has(VIRTIO_BALLOON_F_DEFLATE_ON_OOM),
      pageReporting: this.#has(VIRTIO_BALLOON_F_PAGE_REPORTING),
      poison: this.#has(VIRTIO_BALLOON_F_PAGE_POISON) ? poisonVal : null,
      ...this.#statisticsJson(),
      requests: this.metrics.toJSON(),
    };
  }

  close(): void {
    this.#endWaiting();
    if (this.#timer === null) return;
    this.#context.watch(this.#timer.fd, null);
    this.#timer.close();
  }

  /** The driver starts anew: it has no page in the balloon. */
  #empty(): void {
    this.#write(CONFIG_ACTUAL, 0);
    this.#start = 0;
    this.#reclaimer.clear();
    this.#statistics.clear();
  }

  #has(feature: number): boolean {
    return hasFeature(this.#features, feature);
  }

  #roleOf(queue: number): Role | null {
    if (queue === INFLATE_QUEUE) return "inflate";
    if (queue === DEFLATE_QUEUE) return "deflate";
    return this.#has(VIRTIO_BALLOON_F_PAGE_REPORTING) ? "report" : null;
  }

  #refuse(chain: DescriptorChain): void {
    this.metrics.refuse(REFUSALS.queue);
    this.metrics.completed++;
    chain.queue.complete(chain, 0);
  }

  /**
   * A driver that poisons its free pages expects the poison in them: pages with
   * anything but zeros stay (section 5.5.6.7).
   */
  #judgeReports(): void {
    this.#requests.keepReports = this.#poisons &&
      this.#view.getUint32(CONFIG_POISON_VAL, true) !== 0;
  }

  #setTarget(size: unknown): Record<string, unknown> {
    const memory = this.#reclaimer.memorySize;
    if (memory === 0) {
      throw new BalloonTargetError(size, "no guest is connected");
    }
    const { numPages, actual } = decodeConfig(this.config);
    const current = memory - numPages * BALLOON_PAGE_SIZE;
    const wanted = parseTarget(size, memory, current);
    const pages = Math.min(
      Math.floor((memory - wanted) / BALLOON_PAGE_SIZE),
      0xffff_ffff,
    );
    this.#start = actual;
    if (pages !== numPages) {
      this.#write(CONFIG_NUM_PAGES, pages);
      this.#context.configChanged();
      this.#context.log(
        "info",
        `target changed: ${pages * BALLOON_PAGE_SIZE} of ${memory} bytes are ` +
          "asked of the guest",
      );
    }
    return this.status();
  }

  #serveStatistics(queue: VirtQueue, budget: number): void {
    for (let i = 0; i < budget; i++) {
      const chain = queue.take();
      if (chain === null) return;
      // The driver has one buffer; of another one, the older is done with.
      if (this.#statsChain !== null) this.#handBack(this.#statsChain);
      this.#statsChain = chain;
      this.metrics.statistics++;
      if (!this.#statistics.read(chain, performance.now())) {
        this.metrics.refuse(REFUSALS.length);
      }
      this.#endWaiting();
    }
  }

  #handBack(chain: DescriptorChain): void {
    this.metrics.completed++;
    chain.queue.complete(chain, 0);
  }

  #askForStatistics(): void {
    const chain = this.#statsChain;
    if (chain === null) return;
    this.#statsChain = null;
    this.#handBack(chain);
    this.#context.resume(chain.queue);
  }

  #askAndWait(): Record<string, unknown> | Promise<Record<string, unknown>> {
    if (!this.#has(VIRTIO_BALLOON_F_STATS_VQ)) {
      throw new Error(
        "Cannot tell statistics: no driver runs that offers them (STATS_VQ)",
      );
    }
    this.#askForStatistics();
    return new Promise((resolve) => {
      const timer = setTimeout(() => end(), STATS_PATIENCE);
      const end = (): void => {
        clearTimeout(timer);
        this.#statsWaiters = this.#statsWaiters.filter((one) => one !== end);
        resolve(this.#statisticsJson());
      };
      this.#statsWaiters.push(end);
    });
  }

  #endWaiting(): void {
    if (this.#statsWaiters.length === 0) return;
    for (const end of [...this.#statsWaiters]) end();
  }

  /** The statistics, and how many seconds ago they came. */
  #statisticsJson(): Record<string, unknown> {
    const { at } = this.#statistics;
    const age = at < 0 ? null : (performance.now() - at) / 1000;
    return { stats: this.#statistics.toJSON(), statsAge: age };
  }

  #write(field: number, value: number): void {
    this.#view.setUint32(field, value, true);
  }
}
