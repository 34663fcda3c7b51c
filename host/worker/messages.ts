/**
 * What the main thread and a data Worker say to each other.
 *
 * Each command is answered exactly once. The Worker sleeps in a
 * blocking system call, so posting a message does not wake it: whoever posts
 * also increments the counter that both share and signals the control eventfd
 * (see `channel.ts`).
 *
 * @module
 */

import type {
  ConfigLoan,
  MappedLog,
  RingSetup,
} from "../../vhost/data_plane.ts";
import type { LogLevel } from "../../virtqueue/device.ts";
import type { RegionBacking } from "../../virtqueue/memory.ts";

/**
 * Index of the loop's pulse: another number in each turn, 0 while it sleeps. One
 * that stands still belongs to a loop that is kept by somebody.
 */
export const PULSE = 1;

/** First message: what the loop of the Worker needs. It is not answered. */
export interface Begin {
  /** The eventfd that wakes the Worker. */
  readonly controlFd: number;
  /**
   * An Int32Array of two elements: the number of commands posted so far, and the
   * {@linkcode PULSE} of the loop.
   */
  readonly posted: SharedArrayBuffer;
  /** How long to look at the rings before sleeping: a mode, or microseconds. */
  readonly poll: "auto" | "off" | number;
  /**
   * A descriptor that the kernel is to keep open until the requests of the
   * Worker's ring have ended; -1: none.
   */
  readonly remainsFd: number;
}

/** First command for a device: import its module and make it. */
export interface CreateCommand {
  readonly type: "create";
  /** Number of the Worker among those of the device, from 0. */
  readonly worker: number;
  /** URL of the device module; its default export is a `CreateDevice`. */
  readonly module: string;
  /** Options of the device: JSON values. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Chain objects for each queue: how many requests it may have in flight. */
  readonly slotsPerQueue: number;
  /** Number of Workers of the device. */
  readonly workers: number;
  /** What the device's predecessor kept for it. */
  readonly kept?: unknown;
}

/** A region of guest memory, as a Worker needs it. */
export interface RegionAddress {
  /** Guest physical address. */
  readonly guestAddress: number;
  /** Bytes. */
  readonly size: number;
  /** Address in this process. */
  readonly hostAddress: number;
  /** The shared memory that it is a window on; its descriptor is the main thread's. */
  readonly backing?: RegionBacking;
}

/** Everything that may be asked of a data Worker. */
export type Command =
  | CreateCommand
  | { readonly type: "negotiate"; readonly features: bigint }
  | {
    readonly type: "write-config";
    readonly offset: number;
    readonly data: Uint8Array;
  }
  | { readonly type: "add-region"; readonly region: RegionAddress }
  | { readonly type: "remove-region"; readonly region: RegionAddress }
  | { readonly type: "start-ring"; readonly ring: RingSetup }
  | {
    readonly type: "stop-ring";
    readonly index: number;
    readonly suspend: boolean;
  }
  | {
    readonly type: "set-call" | "set-error";
    readonly index: number;
    readonly fd: number;
  }
  | { readonly type: "log-writes"; readonly log: MappedLog | null }
  | {
    readonly type: "set-used-log";
    readonly index: number;
    readonly address: number;
  }
  | { readonly type: "set-log-fd"; readonly fd: number }
  /** Until `loan-over` is posted, or `end-loan` is answered. */
  | { readonly type: "answer-config"; readonly loan: ConfigLoan }
  | { readonly type: "end-loan" }
  | { readonly type: "activate" | "deactivate" }
  | { readonly type: "reset" }
  | {
    readonly type: "command";
    readonly name: string;
    readonly parameters: Readonly<Record<string, unknown>>;
  }
  /** From the device's object in another Worker. */
  | { readonly type: "hear"; readonly value: unknown }
  /** What was told has been heard by all others, or is kept. */
  | { readonly type: "heard"; readonly told: number }
  | { readonly type: "status" }
  | { readonly type: "close" }
  /** To the Worker itself: no device is left. */
  | { readonly type: "end" };

/** A command with the number that its answer carries. */
export interface Request {
  /** Chosen by the main thread, unique for the Worker. */
  readonly id: number;
  /** Number of the device in the Worker, chosen by the main thread. */
  readonly device: number;
  /** What is asked. */
  readonly command: Command;
}

/** The answer to `create`. */
export interface DeviceFacts {
  /** Virtio device ID. */
  readonly deviceId: number;
  /** Device feature bits. */
  readonly features: bigint;
  /** Number of virtqueues. */
  readonly queueCount: number;
  /** Adjacent queues that one Worker serves. */
  readonly adjacentQueues: number;
  /** Configuration space: a copy, or the shared one where there are words. */
  readonly config: Uint8Array;
  /** See `VirtioDevice.driverWords`. */
  readonly driverWords: readonly number[] | null;
}

/** What a ring looks like from outside. */
export interface RingStatus {
  /** Queue index. */
  readonly index: number;
  /** Entries. */
  readonly size: number;
  /** Position in the available ring. */
  readonly position: number;
  /** Chains that the device works on. */
  readonly inFlight: number;
  /** Chains handed back. */
  readonly completed: number;
  /** Chains that broke a rule. */
  readonly badChains: number;
  /** Used-buffer notifications sent. */
  readonly notifications: number;
  /** Available-buffer notifications received. */
  readonly kicks: number;
  /** Why the ring is not served any more. */
  readonly broken: string | null;
  /** The last chain error. */
  readonly lastError: string | null;
}

/** The answer to `status`. */
export interface WorkerStatus {
  /** Rings that run. */
  readonly rings: readonly RingStatus[];
  /** What the device says of itself. */
  readonly device: Readonly<Record<string, unknown>>;
  /** Wake-ups that the loop missed: see `DataLoop.missedWakeUps`. */
  readonly missedWakeUps: number;
}

/** What a Worker posts. */
export type WorkerMessage =
  | {
    readonly type: "answer";
    readonly id: number;
    readonly value: unknown;
  }
  | {
    readonly type: "refusal";
    readonly id: number;
    readonly message: string;
    readonly kind: string;
  }
  | {
    readonly type: "config-changed";
    readonly device: number;
    readonly config: Uint8Array;
    /** False: the driver caused it and knows already. */
    readonly notify: boolean;
  }
  | {
    /** The connection that was lent is not used any more. */
    readonly type: "loan-over";
    readonly device: number;
  }
  | {
    /** What the device keeps for a successor. */
    readonly type: "keep";
    readonly device: number;
    /** Number that `heard` carries; `null`: nobody waits for it. */
    readonly told: number | null;
    readonly value: unknown;
  }
  | {
    /** What the device is about to wait for while it is made. */
    readonly type: "waits-for";
    readonly device: number;
    readonly what: string;
  }
  | {
    /** For the device's objects in other Workers. */
    readonly type: "tell";
    readonly device: number;
    /** Number that `heard` carries. */
    readonly told: number;
    readonly value: unknown;
  }
  | {
    readonly type: "log";
    readonly device: number;
    readonly level: LogLevel;
    readonly message: string;
  };
