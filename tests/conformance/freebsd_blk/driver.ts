/**
 * virtio_blk(4), function by function.
 *
 * Theory of operation: the methods are those of
 * `sys/dev/virtio/block/virtio_blk.c` under their names without the prefix
 * `vtblk_`; what differs between releases is in the profile. A request is a
 * header of 16 bytes, the pages of the data, and a status byte that is preset to
 * 0xFF, each in descriptors of its own. Requests wait in `bioq` while the ring
 * is full, suspended, or held up by an ordered one.
 *
 * What the driver takes for granted is checked where it would notice, and some
 * of it earlier: lengths of used elements, which the driver ignores, and memory
 * around buffers.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { VIRTIO_F_INDIRECT_DESC } from "../../../virtqueue/constants.ts";
import { FreeBsdErrno, kassert, PAGE_SIZE } from "../freebsd/kernel.ts";
import { type KernelBuffer, SgList } from "../freebsd/memory.ts";
import type { VirtioChild, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VIRTIO_MAX_INDIRECT, type Virtqueue } from "../freebsd/virtqueue.ts";
import { Bio, Disk } from "./disk.ts";
import { BlkFeature, type VtblkProfile } from "./profiles.ts";
import { type BlkConfig, describeDisk, readConfig } from "./config.ts";
import { RequestPool, RequestType, type VtblkRequest } from "./request.ts";

/** `VTBLK_BSIZE`. */
const SECTOR = 512;
/** `VTBLK_MIN_SEGMENTS`: header and status. */
const MIN_SEGMENTS = 2;
/** `VIRTIO_BLK_ID_BYTES`. */
const ID_BYTES = 20;
/** Offset of `wce` in the configuration space. */
const CONFIG_WCE = 32;
/** Range of a discard. */
const DISCARD_BYTES = 16;

const { EBUSY, EINVAL, ENOTSUP, ENXIO, EOPNOTSUPP, EROFS } = FreeBsdErrno;

/** `struct vtblk_softc`: `vtblk0`, and the disk `vtbd0`. */
export class Vtblk implements VirtioChild {
  readonly name = "vtblk0";
  /** The release of the driver. */
  readonly profile: VtblkProfile;
  /** `vtblk_disk`; null before it was allocated. */
  disk: Disk | null = null;
  /** `vtblk_max_nsegs`. */
  maxSegments = 0;
  /** `vtblk_write_cache`: 1 is writeback. */
  writeCache = 0;
  /** What the driver read from the configuration space last. */
  config: BlkConfig | null = null;
  /** Requests that came back, by result. */
  readonly completed = { ok: 0, failed: 0 };
  readonly #print: (message: string) => void;
  #bus!: VirtioPci;
  #queue: Virtqueue<VtblkRequest> | null = null;
  #pool: RequestPool | null = null;
  #sglist!: SgList;
  readonly #bioq: Bio[] = [];
  #ready: VtblkRequest | null = null;
  #orderedRequest: VtblkRequest | null = null;
  #detaching = false;
  #suspended = false;

  /** @param print `device_printf` */
  constructor(profile: VtblkProfile, print: (message: string) => void) {
    this.profile = profile;
    this.#print = print;
  }

  /** `vtblk_feature_desc`. */
  get featureNames(): VtblkProfile["featureNames"] {
    return this.profile.featureNames;
  }

  /** `vtblk_vq`. */
  get queue(): Virtqueue<VtblkRequest> {
    kassert(this.#queue !== null, "vtblk0 has no virtqueue");
    return this.#queue!;
  }

  /** I/O that was not put on the ring yet. */
  get waiting(): number {
    return this.#bioq.length + (this.#ready === null ? 0 : 1);
  }

  /** `vtblk_attach`. */
  async attach(bus: VirtioPci): Promise<number> {
    this.#bus = bus;
    const error = await this.#setupFeatures() ||
      await this.#setupSegments() || await this.#allocVirtqueue();
    if (error !== 0) {
      await this.detach();
      return error;
    }
    // vtblk_request_prealloc: an indirect request needs one descriptor.
    const requests = this.#has(VIRTIO_F_INDIRECT_DESC)
      ? this.queue.size
      : this.queue.size / MIN_SEGMENTS;
    this.#pool = new RequestPool(bus.memory, this.profile.request, requests);
    this.#allocDisk();
    await bus.setupIntr();
    if (this.profile.identify === "attach") await this.#createDisk();
    this.queue.enableIntr();
    return 0;
  }

  /** `vtblk_attach_completed`. */
  async attachCompleted(): Promise<void> {
    if (this.profile.identify === "attach-completed") await this.#createDisk();
  }

  /** `vtblk_detach`. */
  async detach(): Promise<void> {
    this.#detaching = true;
    if (this.#bus.attached) {
      this.queue.disableIntr();
      await this.#bus.stop();
    }
    this.#drain();
    this.disk = null;
  }

  /** `vtblk_suspend`. */
  async suspend(): Promise<void> {
    this.#suspended = true;
    const queue = this.queue;
    await this.#bus.sleep(queue, () => queue.empty, "the queue to be quiet");
  }

  /** `vtblk_resume`. */
  resume(): void {
    this.#suspended = false;
    this.#startIo();
  }

  /** `vtblk_config_change`. */
  async configChange(): Promise<void> {
    const disk = this.disk!;
    const capacity = (await this.#readConfig()).capacity * SECTOR;
    if (disk.mediaSize === capacity) return;
    disk.mediaSize = capacity;
    this.#print(`resized to ${this.#mediaDescription()}`);
  }

  /** `vtblk_strategy`. */
  strategy(bio: Bio): void {
    const { command } = bio;
    const modifies = command === "write" || command === "flush";
    if (this.#readOnlyInDriver && modifies) return bio.finish(EROFS);
    if (command === "zone") return bio.finish(EOPNOTSUPP);
    if (this.#detaching) return bio.finish(ENXIO);
    kassert(
      command !== "delete" || this.profile.discard,
      "vtblk_request_bio: bio with unhandled cmd",
    );
    this.#bioq.push(bio);
    this.#startIo();
  }

  /** Waits for I/O, as whoever issued it does (`biowait`). */
  async wait(bios: readonly Bio[]): Promise<void> {
    await this.#bus.sleep(
      this.queue,
      () => bios.every((bio) => bio.done),
      `${bios.filter((bio) => !bio.done).length} of ${bios.length} bios`,
    );
  }

  /**
   * `vtblk_dump`: part of a kernel dump, written by polling; with no data, the
   * end of it.
   */
  async dump(data: KernelBuffer | null, offset: number): Promise<number> {
    const queue = this.queue;
    // vtblk_dump_quiesce: what is in flight is finished when the dump is.
    while (!queue.empty) {
      const { cookie, length } = await this.#bus.poll(queue);
      this.#complete(cookie, length);
    }
    if (data !== null) {
      return await this.#pollRequest(
        this.#pool!.dump,
        new Bio({ command: "write", offset, data }),
        RequestType.OUT,
        offset / SECTOR,
      );
    }
    return await this.#pollRequest(
      this.#pool!.dump,
      new Bio({ command: "flush" }),
      RequestType.FLUSH,
      0,
    );
  }

  /** `vtblk_write_cache_sysctl`, when `writecache_mode` is written. */
  async setWriteCache(mode: 0 | 1): Promise<number> {
    if (!this.#has(BlkFeature.CONFIG_WCE)) return EINVAL;
    this.writeCache = mode;
    await this.#bus.writeConfig1(CONFIG_WCE, mode);
    return 0;
  }

  /** `vtblk_setup_features`. */
  async #setupFeatures(): Promise<number> {
    const { legacyFeatures, modernFeatures } = this.profile;
    await this.#bus.negotiateFeatures(
      this.#bus.modern ? modernFeatures : legacyFeatures,
    );
    return await this.#bus.finalizeFeatures();
  }

  /** `vtblk_read_config` and `vtblk_maximum_segments`. */
  async #setupSegments(): Promise<number> {
    const config = await this.#readConfig();
    const { maxphys } = this.#bus.release;
    if (this.#has(BlkFeature.SIZE_MAX) && config.sizeMax < maxphys) {
      this.#print("host requires unsupported maximum segment size feature");
      return ENOTSUP;
    }
    let segments = MIN_SEGMENTS;
    if (this.#has(BlkFeature.SEG_MAX)) {
      segments += Math.min(config.segMax, maxphys / PAGE_SIZE + 1);
      if (this.#has(VIRTIO_F_INDIRECT_DESC)) {
        segments = Math.min(segments, VIRTIO_MAX_INDIRECT);
      }
    } else segments += 1;
    if (segments <= MIN_SEGMENTS) {
      this.#print(`fewer than minimum number of segments allowed: ${segments}`);
      return EINVAL;
    }
    this.maxSegments = segments;
    this.#sglist = new SgList(segments);
    return 0;
  }

  /** `vtblk_alloc_virtqueue`. */
  async #allocVirtqueue(): Promise<number> {
    const queues = await this.#bus.allocVirtqueues<VtblkRequest>([{
      name: `${this.name} request`,
      maxIndirect: this.maxSegments,
      interrupt: () => this.#interrupt(),
    }]);
    if (typeof queues === "number") {
      this.#print("cannot allocate virtqueue");
      return queues;
    }
    this.#queue = queues[0];
    return 0;
  }

  /** `vtblk_alloc_disk`. */
  #allocDisk(): void {
    const config = this.config!;
    this.disk = new Disk((bio) => this.strategy(bio));
    const most = (this.maxSegments - MIN_SEGMENTS) * PAGE_SIZE;
    describeDisk(this.disk, this.profile, this.#bus, config, most);
    // vtblk_write_cache_enabled, without the tunable.
    this.writeCache = this.#has(BlkFeature.CONFIG_WCE)
      ? config.wce
      : Number(this.#has(BlkFeature.FLUSH));
  }

  /** `vtblk_create_disk`. */
  async #createDisk(): Promise<void> {
    await this.#ident();
    this.#print(this.#mediaDescription());
  }

  /** `vtblk_ident`. */
  async #ident(): Promise<void> {
    using data = this.#bus.memory.buffer(ID_BYTES, "contiguous", 640);
    const request = this.#pool!.take()!;
    const error = await this.#pollRequest(
      request,
      new Bio({ command: "read", data }),
      RequestType.GET_ID,
      0,
    );
    if (error !== 0) {
      this.#print(`error getting device identifier: ${error}`);
    } else {
      this.disk!.setIdent(data.read());
    }
    data.checkSurroundings();
  }

  /** `vtblk_poll_request`. */
  async #pollRequest(
    request: VtblkRequest,
    bio: Bio,
    type: number,
    sector: number,
  ): Promise<number> {
    const queue = this.queue;
    if (!queue.empty) return EBUSY;
    request.prepare(bio, type, sector);
    const error = this.#execute(request);
    if (error !== 0) return error;
    queue.notify();
    const { cookie, length } = await this.#bus.poll(queue);
    kassert(cookie === request, "another request came back");
    this.#complete(cookie, length);
    return bio.error!;
  }

  /** `vtblk_startio`. */
  #startIo(): void {
    if (this.#suspended) return;
    const queue = this.queue;
    let enqueued = 0;
    while (!queue.full) {
      const request = this.#ready ?? this.#requestBio();
      this.#ready = null;
      if (request === null) break;
      if (this.#execute(request) !== 0) {
        this.#ready = request;
        break;
      }
      enqueued++;
    }
    if (enqueued > 0) queue.notify();
  }

  /** `vtblk_request_bio`. */
  #requestBio(): VtblkRequest | null {
    if (this.#bioq.length === 0) return null;
    const request = this.#pool!.take();
    if (request === null) return null;
    const bio = this.#bioq.shift()!;
    const type = {
      read: RequestType.IN,
      write: RequestType.OUT,
      flush: RequestType.FLUSH,
      delete: RequestType.DISCARD,
      zone: RequestType.IN,
    }[bio.command];
    const sector = bio.command === "flush" ? 0 : bio.offset / SECTOR;
    request.prepare(
      bio,
      bio.ordered ? type | RequestType.BARRIER : type,
      sector,
    );
    return request;
  }

  /** `vtblk_request_execute`. */
  #execute(request: VtblkRequest): number {
    const queue = this.queue, sg = this.#sglist, bio = request.bio!;
    let ordered = false;
    if (!this.#has(BlkFeature.BARRIER)) {
      // Without barriers an ordered request is alone on the ring.
      if (this.#orderedRequest !== null) return EBUSY;
      if (bio.ordered) {
        if (!queue.empty) return EBUSY;
        ordered = true;
        request.clearBarrier();
      }
    }
    sg.reset();
    sg.append(request.headerAddress, 16);
    let writable = 1;
    if (bio.data !== null) {
      for (const range of bio.data.ranges(bio.dataOffset, bio.length)) {
        kassert(
          sg.append(range.address, range.length) && sg.count < sg.maxSegments,
          `bio data buffer too big: ${bio.length} bytes`,
        );
      }
      if (bio.command === "read") writable = sg.count;
    } else if (bio.command === "delete") {
      sg.append(request.allocRange(bio.offset, bio.length), DISCARD_BYTES);
    }
    sg.append(request.ackAddress, 1);
    const error = queue.enqueue(request, sg, sg.count - writable, writable);
    if (error === 0 && ordered) this.#orderedRequest = request;
    return error;
  }

  /** `vtblk_vq_intr`. */
  #interrupt(): void {
    const queue = this.queue;
    while (!this.#detaching) {
      this.#queueCompleted();
      this.#startIo();
      if (!queue.enableIntr()) return;
      queue.disableIntr();
    }
  }

  /** `vtblk_queue_completed` and `vtblk_done_completed`. */
  #queueCompleted(): void {
    for (;;) {
      const back = this.queue.dequeue();
      if (back === null) return;
      this.#complete(back.cookie, back.length);
    }
  }

  /** A request came back. */
  #complete(request: VtblkRequest, length: number): void {
    if (this.#orderedRequest !== null) {
      kassert(
        this.#orderedRequest === request,
        "MPASS: vtblk_req_ordered == req",
      );
      this.#orderedRequest = null;
    }
    const bio = request.bio!, error = request.error;
    assert(
      !request.unanswered,
      `the status of a ${bio.command} was not written`,
    );
    if (error === 0) {
      const data = bio.command === "read" ? bio.length : 0;
      assertEquals(length, data + 1, `used length of a ${bio.command}`);
      this.completed.ok++;
    } else {
      assert(length >= 1, `used length ${length} does not cover the status`);
      this.completed.failed++;
    }
    this.#pool!.give(request);
    bio.finish(error);
  }

  /** `vtblk_drain`: everything ends, with ENXIO what did not come back. */
  #drain(): void {
    if (this.#queue !== null) {
      this.#queueCompleted();
      for (const request of this.#queue.drain()) this.#abandon(request);
      this.#orderedRequest = null;
      kassert(this.#queue.empty, "virtqueue not empty");
    }
    if (this.#ready !== null) this.#abandon(this.#ready);
    this.#ready = null;
    for (const bio of this.#bioq.splice(0)) bio.finish(ENXIO);
    const leaked = this.#pool?.free() ?? 0;
    this.#pool = null;
    kassert(leaked === 0, `leaked ${leaked} requests`);
  }

  #abandon(request: VtblkRequest): void {
    request.bio!.finish(ENXIO);
    this.#pool!.give(request);
  }

  async #readConfig(): Promise<BlkConfig> {
    this.config = await readConfig(this.#bus, this.profile.configReads);
    return this.config;
  }

  #mediaDescription(): string {
    const { mediaSize, sectorSize } = this.disk!;
    return `${Math.floor(mediaSize / 2 ** 20)}MB ` +
      `(${mediaSize / sectorSize} ${sectorSize} byte sectors)`;
  }

  #has(feature: number): boolean {
    return this.#bus.withFeature(feature);
  }

  /** `VTBLK_FLAG_READONLY`. */
  get #readOnlyInDriver(): boolean {
    return this.profile.readOnly === "driver" && this.#has(BlkFeature.RO);
  }
}
