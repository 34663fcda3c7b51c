/**
 * Numbers and layouts of the virtio SCSI host.
 *
 * Source: virtio 1.4, section 5.6.
 *
 * @module
 */

/** Virtio device ID. */
export const VIRTIO_ID_SCSI = 8;

/** Logical units come and go while the device runs. Bit number. */
export const VIRTIO_SCSI_F_HOTPLUG = 1;
/** The device tells of changed parameters of logical units. Bit number. */
export const VIRTIO_SCSI_F_CHANGE = 2;

/** Index of the control queue. */
export const CONTROL_QUEUE = 0;
/** Index of the event queue. */
export const EVENT_QUEUE = 1;
/** Index of the first request queue. */
export const FIRST_REQUEST_QUEUE = 2;

/** Responses. Source: section 5.6.6. */
export const Response = {
  OK: 0,
  FUNCTION_COMPLETE: 0,
  OVERRUN: 1,
  ABORTED: 2,
  BAD_TARGET: 3,
  RESET: 4,
  BUSY: 5,
  TRANSPORT_FAILURE: 6,
  TARGET_FAILURE: 7,
  NEXUS_FAILURE: 8,
  FAILURE: 9,
  FUNCTION_SUCCEEDED: 10,
  FUNCTION_REJECTED: 11,
  INCORRECT_LUN: 12,
} as const;

/** Names of the responses to commands, as counters show them. */
export const RESPONSE_NAMES: readonly string[] = [
  "ok",
  "overrun",
  "aborted",
  "badTarget",
  "reset",
  "busy",
  "transportFailure",
  "targetFailure",
  "nexusFailure",
  "failure",
];

/** Types of requests on the control queue. Source: section 5.6.6.2. */
export const ControlType = {
  TASK_MANAGEMENT: 0,
  ASYNC_QUERY: 1,
  ASYNC_SUBSCRIBE: 2,
} as const;

/** Task management functions. */
export const TaskManagement = {
  ABORT_TASK: 0,
  ABORT_TASK_SET: 1,
  CLEAR_ACA: 2,
  CLEAR_TASK_SET: 3,
  I_T_NEXUS_RESET: 4,
  LOGICAL_UNIT_RESET: 5,
  QUERY_TASK: 6,
  QUERY_TASK_SET: 7,
} as const;

/** Length of a task management request. */
export const TASK_MANAGEMENT_SIZE = 24;
/** Length of an asynchronous notification request. */
export const ASYNC_SIZE = 16;
/** Length of the answer to it. */
export const ASYNC_ANSWER_SIZE = 5;
/** Asynchronous event: the medium changed. */
export const ASYNC_MEDIA_CHANGE = 0x10;

/** Events. Source: section 5.6.6.3. */
export const Event = {
  NO_EVENT: 0,
  TRANSPORT_RESET: 1,
  ASYNC_NOTIFY: 2,
  PARAMETER_CHANGE: 3,
} as const;
/** Set in the event's number: events were lost. */
export const EVENTS_MISSED = 0x8000_0000;
/** Length of an event. */
export const EVENT_SIZE = 16;
/** Reasons of a transport reset. */
export const ResetReason = { HARD: 0, RESCAN: 1, REMOVED: 2 } as const;

/** Bytes of a command request before its CDB. */
export const REQUEST_HEAD_SIZE = 19;
/** Bytes of a command response before its sense data. */
export const RESPONSE_HEAD_SIZE = 12;
/** CDB size until the driver says otherwise. */
export const DEFAULT_CDB_SIZE = 32;
/** Sense size until the driver says otherwise. */
export const DEFAULT_SENSE_SIZE = 96;
/** Largest sizes that a driver may choose. */
export const MAX_CDB_SIZE = 4096, MAX_SENSE_SIZE = 4096;

/** Length of the configuration space. */
export const CONFIG_SIZE = 36;
/** Offsets of the fields that a driver writes. */
export const CONFIG_SENSE_SIZE = 20, CONFIG_CDB_SIZE = 24;

/** What the configuration space tells. */
export interface ScsiConfig {
  /** Number of request queues. */
  readonly numQueues: number;
  /** Most data segments of a request. */
  readonly segMax: number;
  /** Most sectors of 512 bytes of a request. */
  readonly maxSectors: number;
  /** Most commands of a logical unit. */
  readonly cmdPerLun: number;
  /** Bytes of sense data in a response. */
  readonly senseSize: number;
  /** Bytes of a CDB in a request. */
  readonly cdbSize: number;
  /** Largest target number. */
  readonly maxTarget: number;
  /** Largest logical unit number. */
  readonly maxLun: number;
}

/** Writes a configuration space of {@linkcode CONFIG_SIZE} bytes. */
export function encodeConfig(config: ScsiConfig, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, CONFIG_SIZE);
  view.setUint32(0, config.numQueues, true);
  view.setUint32(4, config.segMax, true);
  view.setUint32(8, config.maxSectors, true);
  view.setUint32(12, config.cmdPerLun, true);
  view.setUint32(16, EVENT_SIZE, true);
  view.setUint32(CONFIG_SENSE_SIZE, config.senseSize, true);
  view.setUint32(CONFIG_CDB_SIZE, config.cdbSize, true);
  view.setUint16(28, 0, true);
  view.setUint16(30, config.maxTarget, true);
  view.setUint32(32, config.maxLun, true);
}
