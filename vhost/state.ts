/**
 * What a session knows: everything that the messages of one connection change.
 *
 * @module
 */

import type { Reactor } from "../sys/reactor.ts";
import { BackendChannel } from "./backend_channel.ts";
import {
  MAX_QUEUES,
  ProtocolFeature,
  SERVED_NET_FEATURES,
  SERVED_PROTOCOL_FEATURES,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_ID_NET,
} from "./constants.ts";
import type { OwnedFd } from "../sys/fd.ts";
import type { DataPlane } from "./data_plane.ts";
import type { InflightArea } from "./inflight_area.ts";
import type { KeptRings } from "./kept_rings.ts";
import type { LogArea } from "./log_area.ts";
import { MemoryTable } from "./memory_table.ts";
import { Vring } from "./vring.ts";

/** Bit 30 of the virtio features, which is the transport's, as a mask. */
export const PROTOCOL_FEATURES_BIT: bigint = 1n <<
  BigInt(VHOST_USER_F_PROTOCOL_FEATURES);

/** Bit 26 of the virtio features, which is the front-end's own, as a mask. */
export const LOG_ALL_BIT: bigint = 1n << BigInt(VHOST_F_LOG_ALL);

/** Where a session writes its log lines. */
export interface SessionLog {
  /** What only a developer wants to know. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What happened. */
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What went wrong and was dealt with. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What went wrong and ended something. */
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The state of one connection. */
export class SessionState {
  /** Serves the rings. */
  readonly plane: DataPlane;
  /** Where log lines go. */
  readonly log: SessionLog;
  /** All queues of the device. */
  readonly rings: readonly Vring[];
  /** Messages to the front-end. */
  readonly channel: BackendChannel;
  /** The guest's memory. */
  readonly memory = new MemoryTable();
  /** Where requests in flight are tracked; `null` before `SET_INFLIGHT_FD`. */
  inflight: InflightArea | null = null;
  /** Tracks packed rings that the front-end does not; `null`: nobody does. */
  readonly kept: KeptRings | null;
  /** The log that the front-end brought; `null`: none, or logging is over. */
  logArea: LogArea | null = null;
  /** Where the data plane logs writes now; `null`: nowhere. */
  loggedTo: LogArea | null = null;
  /** Signalled when the log was written; `null`: nobody listens. */
  logFd: OwnedFd | null = null;
  /** Virtio features acknowledged, bits 26 and 30 included. */
  features = 0n;
  /** What the data plane was last told of them; `null`: nothing yet. */
  announced: bigint | null = null;
  /** Protocol features acknowledged. */
  protocolFeatures = 0n;
  /** What to tell whoever names a ring that there is not. */
  ringHint = "";
  /** `SET_OWNER` came. */
  owned = false;
  /** Virtio device status as the front-end reports it; informative only. */
  deviceStatus = 0;

  /** The state of a connection on which nothing was said yet. */
  constructor(
    plane: DataPlane,
    log: SessionLog,
    reactor: Reactor,
    kept: KeptRings | null = null,
  ) {
    if (plane.queueCount > MAX_QUEUES) {
      throw new RangeError(
        `Cannot serve ${plane.queueCount} queues: ` +
          `vhost-user can name at most ${MAX_QUEUES}`,
      );
    }
    this.plane = plane;
    this.kept = kept;
    this.log = log;
    this.rings = Array.from(
      { length: plane.queueCount },
      (_, index) => new Vring(index),
    );
    this.channel = new BackendChannel(
      reactor,
      () =>
        this.negotiated(ProtocolFeature.CONFIG) &&
        this.rings.some((ring) => ring.running),
    );
  }

  /** Virtio features offered, bits 26 and 30 included. */
  get offered(): bigint {
    return this.plane.features | LOG_ALL_BIT | PROTOCOL_FEATURES_BIT;
  }

  /** Protocol features offered: those of the kind of device too. */
  get offeredProtocolFeatures(): bigint {
    return this.plane.deviceId === VIRTIO_ID_NET
      ? SERVED_PROTOCOL_FEATURES | SERVED_NET_FEATURES
      : SERVED_PROTOCOL_FEATURES;
  }

  /** Whether a protocol feature is offered; none is needed for `undefined`. */
  offers(bit: number | undefined): boolean {
    return bit === undefined ||
      (this.offeredProtocolFeatures >> BigInt(bit) & 1n) === 1n;
  }

  /** Whether a protocol feature was acknowledged. */
  negotiated(bit: number): boolean {
    return (this.protocolFeatures >> BigInt(bit) & 1n) === 1n;
  }

  /**
   * Whether requests may stay in flight when a ring is stopped by its own message.
   * Without tracking that could not be, whatever was acknowledged.
   */
  get leavesInFlight(): boolean {
    return this.negotiated(ProtocolFeature.GET_VRING_BASE_INFLIGHT) &&
      this.negotiated(ProtocolFeature.INFLIGHT_SHMFD);
  }

  /** Whether the front-end acknowledged bit 26: writes are to be logged. */
  get logging(): boolean {
    return (this.features & LOG_ALL_BIT) !== 0n;
  }

  /** Whether writes are to be logged, and the log has yet to come. */
  get awaitsLog(): boolean {
    return this.logging && this.logArea === null &&
      this.negotiated(ProtocolFeature.LOG_SHMFD);
  }

  /** Whether the front-end acknowledged bit 30 and will enable rings itself. */
  get enablesRings(): boolean {
    return (this.features & PROTOCOL_FEATURES_BIT) !== 0n;
  }
}
