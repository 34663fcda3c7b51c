/**
 * What a SCSI host counts.
 *
 * @module
 */

import { RESPONSE_NAMES } from "./protocol.ts";

/** Names of status codes. */
const STATUS_NAMES: Readonly<Record<number, string>> = {
  0x00: "good",
  0x02: "checkCondition",
  0x08: "busy",
  0x18: "reservationConflict",
  0x28: "taskSetFull",
  0x40: "taskAborted",
};

/** Counters of a SCSI host. Every one only grows. */
export class ScsiMetrics {
  /** Commands handed back to the driver. */
  completed = 0;
  /** Requests too broken to be answered. */
  malformed = 0;
  /** Requests on the control queue that were answered. */
  controls = 0;
  /** Events that the driver was told of. */
  events = 0;
  /** Events that were lost for want of buffers. */
  eventsMissed = 0;
  /** Bytes moved by commands. */
  bytes = 0;
  readonly #opcodes = new Float64Array(256);
  readonly #statuses = new Float64Array(256);
  readonly #responses = new Float64Array(256);

  /** Counts a command that ended. */
  count(opcode: number, status: number, response: number): void {
    this.completed++;
    this.#opcodes[opcode]++;
    this.#responses[response]++;
    if (response === 0) this.#statuses[status]++;
  }

  /** The counters as JSON; of commands and answers, those that happened. */
  toJSON(): Record<string, unknown> {
    return {
      completed: this.completed,
      bytes: this.bytes,
      malformed: this.malformed,
      controls: this.controls,
      events: this.events,
      eventsMissed: this.eventsMissed,
      commands: named(
        this.#opcodes,
        (opcode) => `0x${opcode.toString(16).padStart(2, "0")}`,
      ),
      statuses: named(
        this.#statuses,
        (status) => STATUS_NAMES[status] ?? String(status),
      ),
      responses: named(
        this.#responses,
        (response) => RESPONSE_NAMES[response] ?? String(response),
      ),
    };
  }
}

function named(
  counters: Float64Array,
  name: (index: number) => string,
): Record<string, number> {
  const found: Record<string, number> = {};
  counters.forEach((count, i) => {
    if (count > 0) found[name(i)] = count;
  });
  return found;
}
