/**
 * The facts of a session, for people and for management.
 *
 * @module
 */

import { COUNTED } from "./config_answerer.ts";
import { messageName, protocolFeatureList } from "./constants.ts";
import { ringActivity } from "./rings.ts";
import { PROTOCOL_FEATURES_BIT, type SessionState } from "./state.ts";

/** A ring as {@linkcode SessionStatus} tells of it. */
export interface RingStatus {
  /** Queue index. */
  readonly index: number;
  /** Number of entries; 0 before it is known. */
  readonly size: number;
  /** `SET_VRING_ENABLE`. */
  readonly enabled: boolean;
  /** `SET_VRING_KICK` came, `GET_VRING_BASE` did not since. */
  readonly started: boolean;
  /** The data plane serves it. */
  readonly running: boolean;
  /** What it is doing, or what it waits for. */
  readonly activity: string;
  /** Next entry of the available ring; `null` while the ring runs. */
  readonly position: number | null;
}

/** The facts of a session, JSON values only. */
export interface SessionStatus {
  /** Virtio features acknowledged, hexadecimal, without bit 30. */
  readonly features: string;
  /** Names of the protocol features acknowledged. */
  readonly protocolFeatures: readonly string[];
  /** `SET_OWNER` came. */
  readonly owned: boolean;
  /** Virtio device status as the front-end reported it. */
  readonly deviceStatus: number;
  /** All queues of the device. */
  readonly rings: readonly RingStatus[];
  /** The guest's memory. */
  readonly regions: readonly {
    readonly guestAddress: number;
    readonly size: number;
    readonly pageSize: number;
  }[];
  /** Requests in flight are tracked for the time after a crash. */
  readonly inflightTracking: boolean;
  /** Writes to guest memory are logged for a front-end that copies it. */
  readonly writesLogged: boolean;
  /** There is a back-end channel. */
  readonly backendChannel: boolean;
  /** Messages served, by name. */
  readonly messages: Readonly<Record<string, number>>;
  /** Requests that were answered with a failure. */
  readonly refused: number;
  /** Messages that are not served and asked for no answer. */
  readonly ignored: number;
  /** The last thing that went wrong. */
  readonly lastError: string | null;
}

/** What a session counts. */
export class SessionCounts {
  /** Requests that were answered with a failure. */
  refused = 0;
  /** Messages that are not served and asked for no answer. */
  ignored = 0;
  /** The last thing that went wrong. */
  lastError: string | null = null;
  /** Messages that were answered in place of the session, see `ConfigLoan`. */
  readonly delegated: Uint32Array<SharedArrayBuffer> = new Uint32Array(
    new SharedArrayBuffer(4 * COUNTED.length),
  );
  readonly #served = new Map<number, number>();

  /** Counts a message that was served. */
  served(request: number): void {
    this.#served.set(request, (this.#served.get(request) ?? 0) + 1);
  }

  /** Messages served, by name. */
  get messages(): Record<string, number> {
    const all = new Map(this.#served);
    COUNTED.forEach((request, i) => {
      const n = Atomics.load(this.delegated, i);
      if (n > 0) all.set(request, (all.get(request) ?? 0) + n);
    });
    return Object.fromEntries(
      [...all].map(([request, n]) => [messageName(request), n]),
    );
  }
}

/** The facts of a session as it is now. */
export function sessionStatus(
  state: SessionState,
  counts: SessionCounts,
): SessionStatus {
  return {
    features: `0x${(state.features & ~PROTOCOL_FEATURES_BIT).toString(16)}`,
    protocolFeatures: protocolFeatureList(state.protocolFeatures),
    owned: state.owned,
    deviceStatus: state.deviceStatus,
    rings: state.rings.map((ring) => ({
      index: ring.index,
      size: ring.size,
      enabled: ring.enabled,
      started: ring.started,
      running: ring.running,
      activity: ringActivity(state, ring),
      position: ring.running ? null : ring.position,
    })),
    regions: state.memory.regions.map((region) => ({
      guestAddress: region.guestAddress,
      size: region.size,
      pageSize: region.pageSize,
    })),
    inflightTracking: state.inflight !== null,
    writesLogged: state.loggedTo !== null,
    backendChannel: state.channel.attached,
    messages: counts.messages,
    refused: counts.refused,
    ignored: counts.ignored,
    lastError: counts.lastError,
  };
}
