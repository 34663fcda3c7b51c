/**
 * What a vhost-user session asks of the side that serves the rings.
 *
 * The session (control plane, main thread) decodes messages, owns descriptors
 * and mappings, and decides when a ring runs; the data plane (host/, a Worker)
 * runs it. All calls are made one after the other, each awaited: when a promise
 * resolves, what was asked is true.
 *
 * @module
 */

/** A region of guest memory, mapped into this process. */
export interface MappedRegion {
  /** Guest physical address of the first byte. */
  readonly guestAddress: number;
  /** Length in bytes. */
  readonly size: number;
  /** Address of the first byte in this process. */
  readonly hostAddress: number;
  /** The front-end's own address of the first byte (ring addresses are in these terms). */
  readonly userAddress: number;
  /** Descriptor of the backing memory, open as long as the region is. */
  readonly fd: number;
  /** Offset of the first byte in the backing memory. */
  readonly fileOffset: number;
  /** Page size of the backing memory in bytes. */
  readonly pageSize: number;
}

/** Where the requests of a ring are tracked, in its layout. */
export interface RingInflight {
  /** Address of the first byte in this process, a multiple of 8. */
  readonly address: number;
  /** Length in bytes. */
  readonly size: number;
  /** Heads that there is room for; the ring has no more. */
  readonly heads: number;
}

/** A log of written pages, mapped into this process; see `virtqueue/dirty_log.ts`. */
export interface MappedLog {
  /** Address of the first byte in this process. */
  readonly address: number;
  /** Length in bytes. */
  readonly size: number;
}

/** All that is needed to run a ring. Descriptors stay owned by the session. */
export interface RingSetup {
  /** Queue index, from 0. */
  readonly index: number;
  /** Number of entries. */
  readonly size: number;
  /** Guest physical address of the descriptor table (or packed ring). */
  readonly descriptorTable: number;
  /** Guest physical address of the available ring (or driver event structure). */
  readonly availableRing: number;
  /** Guest physical address of the used ring (or device event structure). */
  readonly usedRing: number;
  /** Where to go on (`VHOST_USER_SET_VRING_BASE`), in the layout of the ring. */
  readonly position: number;
  /** Available-buffer notifications; -1: there are none, poll the ring. */
  readonly kickFd: number;
  /** Used-buffer notifications; -1: the driver polls. */
  readonly callFd: number;
  /** Signalled when the ring meets an error; -1: nobody listens. */
  readonly errorFd: number;
  /** Where to track requests in flight (default: nowhere). */
  readonly inflight?: RingInflight | null;
  /**
   * Guest address at which writes to the used ring are logged, while writes are
   * logged at all (default -1: they are not).
   */
  readonly usedLog?: number;
}

/** A connection that a session lends, for requests about the configuration. */
export interface ConfigLoan {
  /** The connected socket; it stays the session's. */
  readonly fd: number;
  /** `REPLY_ACK` was negotiated: writes are acknowledged where they ask for it. */
  readonly acknowledges: boolean;
  /** Messages answered, those of `GET_CONFIG` and those of `SET_CONFIG`. */
  readonly counts: Uint32Array<SharedArrayBuffer>;
}

/** Answers requests about the configuration space in place of a session. */
export interface ConfigDelegate {
  /**
   * Answers them until something else comes, which stays in the socket, or
   * {@linkcode ConfigDelegate.end} is called. Rings run all the while.
   *
   * @returns when nothing of the loan is used any more
   */
  answer(loan: ConfigLoan): Promise<void>;
  /** Ends the loan of now. */
  end(): void;
}

/** The side that serves rings, as a session sees it. */
export interface DataPlane {
  /** Virtio device ID. */
  readonly deviceId: number;
  /** Virtio features offered (device, ring and transport bits). */
  readonly features: bigint;
  /** Number of virtqueues. */
  readonly queueCount: number;
  /** Snapshot of the device configuration space. */
  readonly config: Uint8Array;
  /** Where requests about it may be answered, too (default: nowhere). */
  readonly configDelegate?: ConfigDelegate | null;

  /**
   * The driver wrote the configuration space. Rejects with a
   * {@linkcode ConfigRefusal} when the device cannot have a value now.
   */
  writeConfig(offset: number, data: Uint8Array): Promise<void>;
  /** The driver acknowledged these features; rings that run go on. */
  negotiate(features: bigint): Promise<void>;
  /** Memory became available. Rings that run go on. */
  addRegion(region: MappedRegion): Promise<void>;
  /**
   * Memory goes away: when the promise resolves, every request that could
   * touch it is done and no view of it is left; it can be unmapped. Rings that
   * lie in it were stopped by the session before.
   */
  removeRegion(region: MappedRegion): Promise<void>;
  /** Runs a ring; serves it once, unasked. Rejects when the device refuses. */
  startRing(ring: RingSetup): Promise<void>;
  /**
   * Stops a ring; nothing touches its memory afterwards.
   *
   * @param suspend requests may stay in flight, noted where they are tracked
   * (default: all are completed first)
   * @returns the position to go on from; -1: there is none, only where its requests
   * are tracked it can be found
   */
  stopRing(index: number, suspend?: boolean): Promise<number>;
  /**
   * Does what stops rings and starts them again. The device keeps what it has, locks
   * say, though none of them runs meanwhile, and gives it back if none runs after.
   */
  restart(work: () => Promise<void>): Promise<void>;
  /** Replaces the used-buffer notification descriptor of a running ring. */
  setCall(index: number, fd: number): Promise<void>;
  /** Replaces the error descriptor of a running ring. */
  setError(index: number, fd: number): Promise<void>;
  /**
   * Logs writes to guest memory. When the promise resolves, every write that is
   * not in the log yet goes to this one, and no view of the one before is left.
   *
   * @param log where to; `null`: nothing is logged any more
   */
  logWrites(log: MappedLog | null): Promise<void>;
  /** Changes {@linkcode RingSetup.usedLog} of a running ring. */
  setUsedLog(index: number, address: number): Promise<void>;
  /**
   * Signals an eventfd whenever the log was written; -1: none any more. When the
   * promise resolves, the one before is not used any more.
   */
  setLogFd(fd: number): Promise<void>;
  /**
   * A command of the protocol that devices of one kind know: `announce` (`mac`)
   * and `mtu` (`mtu`) of network devices. Rejects when the device refuses.
   */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown>;
  /** Resets the device; every ring was stopped before. */
  reset(): Promise<void>;
}

/** What the data plane tells a session, unasked. */
export interface DataPlaneEvents {
  /** The configuration space changed; `config` has the new contents. */
  configChanged(): void;
}
