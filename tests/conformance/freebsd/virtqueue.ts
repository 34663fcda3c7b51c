/**
 * FreeBSD's split virtqueue driver, function by function.
 *
 * Theory of operation: the methods are those of `sys/dev/virtio/virtqueue.c`
 * (unchanged in what a device sees from 10.4 to 15.1) under their names without
 * the prefix. The ring is one piece of page-aligned memory with the used ring
 * on a page of its own, in legacy and modern mode alike. Free descriptors are a
 * list that is threaded through their `next` fields, last in, first out. Each
 * descriptor owns an indirect table, which every chain of two or more segments
 * uses. `VQASSERT` panics as in a kernel with INVARIANTS.
 *
 * The ring in guest memory is the only copy that is used, as in the original:
 * a device that writes where it must not is found out.
 *
 * @module
 */

import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../../virtqueue/constants.ts";
import { needEvent } from "../../../virtqueue/notification.ts";
import { loadAcquire, storeFence } from "../../../virtqueue/ordering.ts";
import { FreeBsdErrno, kassert, PAGE_SIZE } from "./kernel.ts";
import type { PhysicalMemory, SgList } from "./memory.ts";
import { CHAIN_END, Vring } from "./vring.ts";

/** `VIRTIO_MAX_INDIRECT`: a table is at most a page. */
export const VIRTIO_MAX_INDIRECT = PAGE_SIZE / VIRTQ_DESC_SIZE;

const { EINVAL, EMSGSIZE, ENODEV, ENOSPC, ENXIO } = FreeBsdErrno;

/** What `virtqueue_alloc` is told. */
export interface VirtqueueAllocation {
  /** Queue index. */
  readonly index: number;
  /** `vqai_name`, for messages. */
  readonly name: string;
  /** Number of entries, as the device says. */
  readonly size: number;
  /** Negotiated features. */
  readonly features: bigint;
  /** `vqai_maxindirsz`. */
  readonly maxIndirect: number;
  /** Highest physical address of the ring. */
  readonly highAddress: number;
  /** `VIRTIO_BUS_NOTIFY_VQ`. */
  readonly notify: (index: number) => void;
  /** `vqai_intr`. */
  readonly interrupt: () => void;
}

interface DescriptorExtra<Cookie> {
  cookie: Cookie | null;
  readonly indirect: number;
  ndescs: number;
}

/** What came back from the device: the length is not used by virtio_blk. */
export interface Dequeued<Cookie> {
  /** What was given to `enqueue`. */
  readonly cookie: Cookie;
  /** The used element's length. */
  readonly length: number;
}

/** `struct virtqueue`. */
export class Virtqueue<Cookie> {
  /** Chains that were made available since the ring was made. */
  enqueued = 0;
  /** Chains that came back since the ring was made. */
  dequeued = 0;
  /** Notifications that were sent, and those that the device did not want. */
  readonly notifications = { sent: 0, suppressed: 0 };
  readonly #name: string;
  readonly #memory: PhysicalMemory;
  readonly #allocation: VirtqueueAllocation;
  readonly #maxIndirect: number;
  readonly #eventIdx: boolean;
  readonly #extra: DescriptorExtra<Cookie>[] = [];
  readonly #vring: Vring;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  #freeCount: number;
  #queued = 0;
  #head = 0;
  #consumed = 0;

  private constructor(memory: PhysicalMemory, allocation: VirtqueueAllocation) {
    const { size, features, maxIndirect } = allocation;
    this.#memory = memory;
    this.#allocation = allocation;
    this.#name = allocation.name;
    this.#freeCount = size;
    this.#eventIdx = has(features, VIRTIO_F_EVENT_IDX);
    this.#maxIndirect = has(features, VIRTIO_F_INDIRECT_DESC) && maxIndirect > 1
      ? maxIndirect
      : 0;
    for (let i = 0; i < size; i++) {
      const indirect = this.#maxIndirect > 0
        ? memory.malloc(this.#maxIndirect * VIRTQ_DESC_SIZE)
        : 0;
      this.#extra.push({ cookie: null, indirect, ndescs: 0 });
    }
    this.#vring = new Vring(memory, size, allocation.highAddress);
    this.#available = this.#vring.available;
    this.#used = this.#vring.used;
    this.#initialize();
  }

  /** `virtqueue_alloc`. An error number, or the queue. */
  static alloc<Cookie>(
    memory: PhysicalMemory,
    allocation: VirtqueueAllocation,
  ): Virtqueue<Cookie> | number {
    const { size, maxIndirect } = allocation;
    if (size === 0) return ENODEV;
    if ((size & (size - 1)) !== 0) return ENXIO;
    if (maxIndirect > VIRTIO_MAX_INDIRECT) return EINVAL;
    return new Virtqueue(memory, allocation);
  }

  /** `virtqueue_free`. */
  free(): void {
    kassert(
      this.#freeCount === this.size,
      `${this.#name}: freeing non-empty virtqueue, leaking ` +
        `${this.size - this.#freeCount} entries`,
    );
    for (const { indirect } of this.#extra) {
      if (indirect === 0) continue;
      this.#memory.mfree(indirect, this.#maxIndirect * VIRTQ_DESC_SIZE);
    }
    this.#vring.free();
  }

  /** `vq_queue_index`. */
  get index(): number {
    return this.#allocation.index;
  }

  /** `virtqueue_size`. */
  get size(): number {
    return this.#allocation.size;
  }

  /** `virtqueue_desc_paddr`. */
  get descriptorTable(): number {
    return this.#vring.descriptorTable;
  }

  /** `virtqueue_avail_paddr`. */
  get availableRing(): number {
    return this.#vring.availableRing;
  }

  /** `virtqueue_used_paddr`. */
  get usedRing(): number {
    return this.#vring.usedRing;
  }

  /** `virtqueue_empty`. */
  get empty(): boolean {
    return this.#freeCount === this.size;
  }

  /** `virtqueue_full`. */
  get full(): boolean {
    return this.#freeCount === 0;
  }

  /** `VIRTQUEUE_FLAG_INDIRECT`. */
  get indirect(): boolean {
    return this.#maxIndirect > 0;
  }

  /** `virtqueue_nfree`. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** `avail->idx`, as the driver wrote it. */
  get availableIndex(): number {
    return this.#available[1];
  }

  /** `used->idx`, as the device wrote it. */
  get usedIndex(): number {
    return loadAcquire(this.#used, 1);
  }

  /** `avail->flags` or `used_event` say that the driver wants an interrupt. */
  get interruptsEnabled(): boolean {
    return this.#eventIdx
      ? this.#available[2 + this.size] === this.#consumed
      : (this.#available[0] & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  /** `virtqueue_notify`. */
  notify(): void {
    storeFence(this.#available, 1, this.#available[1]);
    if (this.#mustNotifyHost()) {
      this.notifications.sent++;
      this.#allocation.notify(this.index);
    } else {
      this.notifications.suppressed++;
    }
    this.#queued = 0;
  }

  /** `virtqueue_nused`. */
  nused(): number {
    const nused = (this.usedIndex - this.#consumed) & 0xffff;
    kassert(nused <= this.size, `${this.#name} - used more than available`);
    return nused;
  }

  /** `virtqueue_intr_filter`: runs in the interrupt, under MSI-X. */
  intrFilter(): boolean {
    if (this.#consumed === this.usedIndex) return false;
    this.disableIntr();
    return true;
  }

  /** `virtqueue_intr`. */
  intr(): void {
    this.#allocation.interrupt();
  }

  /** `virtqueue_enable_intr`: true when there is something to dequeue already. */
  enableIntr(): boolean {
    return this.#enableInterrupt(0);
  }

  /** `virtqueue_postpone_intr`, by a part of what is outstanding. */
  postponeIntr(hint: "short" | "long" | "emptied"): boolean {
    let count = (this.availableIndex - this.#consumed) & 0xffff;
    if (hint === "short") count = count >> 2;
    else if (hint === "long") count = (count * 3) >> 2;
    return this.#enableInterrupt(count);
  }

  /** `virtqueue_disable_intr`. */
  disableIntr(): void {
    if (this.#eventIdx) {
      this.#available[2 + this.size] = this.#consumed - this.size - 1;
    } else {
      this.#available[0] |= VIRTQ_AVAIL_F_NO_INTERRUPT;
    }
  }

  /** `virtqueue_enqueue`: 0 or an error number. */
  enqueue(
    cookie: Cookie,
    sg: SgList,
    readable: number,
    writable: number,
  ): number {
    const needed = readable + writable;
    kassert(needed === sg.count, `${this.#name} - segment count mismatch`);
    kassert(
      needed <= this.size || needed <= this.#maxIndirect,
      `${this.#name} - too many segments to enqueue: ${needed}, ` +
        `${this.size}/${this.#maxIndirect}`,
    );
    if (needed < 1) return EINVAL;
    if (this.#freeCount === 0) return ENOSPC;
    const indirect = this.#maxIndirect >= needed && needed >= 2;
    if (!indirect && this.#freeCount < needed) return EMSGSIZE;

    const head = this.#head;
    this.#assertValidIndex(head);
    const extra = this.#extra[head];
    kassert(
      extra.cookie === null,
      `${this.#name} - cookie already exists for index ${head}`,
    );
    extra.cookie = cookie;
    if (indirect) {
      this.#enqueueSegments(extra.indirect, 0, sg, readable);
      this.#vring.setDescriptor(
        this.descriptorTable,
        head,
        extra.indirect,
        needed * VIRTQ_DESC_SIZE,
        VIRTQ_DESC_F_INDIRECT,
      );
      extra.ndescs = 1;
      this.#head = this.#vring.next(this.descriptorTable, head);
    } else {
      extra.ndescs = needed;
      this.#head = this.#enqueueSegments(
        this.descriptorTable,
        head,
        sg,
        readable,
      );
    }
    this.#freeCount -= extra.ndescs;
    if (this.#freeCount === 0) this.#assertChainEnd();
    else this.#assertValidIndex(this.#head);
    this.#updateAvail(head);
    return 0;
  }

  /** `virtqueue_dequeue`. */
  dequeue(): Dequeued<Cookie> | null {
    if (this.#consumed === this.usedIndex) return null;
    const slot = this.#consumed & (this.size - 1);
    this.#consumed = (this.#consumed + 1) & 0xffff;
    const { id, length } = this.#vring.usedElement(slot);
    // The driver cuts the id to 16 bits; the device has to write 32.
    kassert(id <= 0xffff, `${this.#name} - used id 0x${id.toString(16)}`);
    this.#freeChain(id);
    const { cookie } = this.#extra[id];
    kassert(cookie !== null, `${this.#name} - no cookie for index ${id}`);
    this.#extra[id].cookie = null;
    this.dequeued++;
    return { cookie: cookie!, length };
  }

  /** `virtqueue_drain`, all of it: the cookies of what never came back. */
  drain(): Cookie[] {
    const cookies: Cookie[] = [];
    this.#extra.forEach((extra, index) => {
      if (extra.cookie === null) return;
      cookies.push(extra.cookie);
      extra.cookie = null;
      this.#freeChain(index);
    });
    return cookies;
  }

  /** `virtqueue_reinit`. */
  reinit(size: number): number {
    if (size !== this.size) return EINVAL;
    kassert(this.empty, `${this.#name} - reinit of a virtqueue in use`);
    this.#initialize();
    return 0;
  }

  /** `vq_ring_init` and `virtqueue_init_indirect_list`, on zeroed memory. */
  #initialize(): void {
    this.#vring.initialize();
    for (const extra of this.#extra) {
      extra.cookie = null;
      extra.ndescs = 0;
      if (this.#maxIndirect === 0) continue;
      const length = this.#maxIndirect * VIRTQ_DESC_SIZE;
      this.#memory.ram.bytes(extra.indirect, length).fill(0);
      this.#vring.threadNext(extra.indirect, this.#maxIndirect);
    }
    this.#head = 0;
    this.#consumed = 0;
    this.#queued = 0;
    this.#freeCount = this.size;
    this.enqueued = 0;
    this.dequeued = 0;
    this.disableIntr();
  }

  /** `vq_ring_enqueue_segments`: the index after the last segment's. */
  #enqueueSegments(
    table: number,
    first: number,
    sg: SgList,
    readable: number,
  ): number {
    let index = first;
    sg.segments.forEach(({ address, length }, i) => {
      kassert(
        index !== CHAIN_END,
        `${this.#name} - premature end of free desc chain`,
      );
      const flags = (i < sg.count - 1 ? VIRTQ_DESC_F_NEXT : 0) |
        (i >= readable ? VIRTQ_DESC_F_WRITE : 0);
      this.#vring.setDescriptor(table, index, address, length, flags);
      index = this.#vring.next(table, index);
    });
    return index;
  }

  /** `vq_ring_update_avail`. */
  #updateAvail(head: number): void {
    const index = this.#available[1];
    this.#available[2 + (index & (this.size - 1))] = head;
    storeFence(this.#available, 1, index + 1);
    this.#queued++;
    this.enqueued++;
  }

  /** `vq_ring_enable_interrupt`. */
  #enableInterrupt(count: number): boolean {
    if (this.#eventIdx) {
      storeFence(this.#available, 2 + this.size, this.#consumed + count);
    } else {
      const flags = this.#available[0] & ~VIRTQ_AVAIL_F_NO_INTERRUPT;
      storeFence(this.#available, 0, flags);
    }
    return this.nused() > count;
  }

  /** `vq_ring_must_notify_host`. */
  #mustNotifyHost(): boolean {
    if (this.#eventIdx) {
      const next = this.#available[1];
      const availEvent = this.#used[2 + 4 * this.size];
      return needEvent(availEvent, next, (next - this.#queued) & 0xffff);
    }
    return (this.#used[0] & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /** `vq_ring_free_chain`. */
  #freeChain(index: number): void {
    this.#assertValidIndex(index);
    const extra = this.#extra[index];
    if (this.#freeCount === 0) this.#assertChainEnd();
    this.#freeCount += extra.ndescs;
    extra.ndescs--;
    let last = index;
    if ((this.#vring.flags(index) & VIRTQ_DESC_F_INDIRECT) === 0) {
      while ((this.#vring.flags(last) & VIRTQ_DESC_F_NEXT) !== 0) {
        last = this.#vring.next(this.descriptorTable, last);
        this.#assertValidIndex(last);
        extra.ndescs--;
      }
    }
    kassert(
      extra.ndescs === 0,
      `${this.#name} - failed to free entire desc chain, ` +
        `remaining: ${extra.ndescs}`,
    );
    this.#vring.setNext(this.descriptorTable, last, this.#head);
    this.#head = index;
  }

  /** `VQ_RING_ASSERT_VALID_IDX`. */
  #assertValidIndex(index: number): void {
    kassert(
      index < this.size,
      `${this.#name} - invalid ring index: ${index}, max: ${this.size}`,
    );
  }

  /** `VQ_RING_ASSERT_CHAIN_TERM`. */
  #assertChainEnd(): void {
    kassert(
      this.#head === CHAIN_END,
      `${this.#name} - full ring terminated incorrectly: ${this.#head}`,
    );
  }
}

function has(features: bigint, bit: number): boolean {
  return (features >> BigInt(bit) & 1n) === 1n;
}
