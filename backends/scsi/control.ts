/**
 * The control queue: task management and asynchronous notification.
 *
 * Theory of operation. A task management function that aborts commands is
 * answered when the last of them has ended, so its chain waits for that; all
 * others are answered at once. When the driver sees the answer is the affair of
 * `control_queue.ts`.
 *
 * Source: virtio 1.4, section 5.6.6.2, SAM-6, section 7.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import {
  ASYNC_ANSWER_SIZE,
  ASYNC_MEDIA_CHANGE,
  ASYNC_SIZE,
  ControlType,
  Response,
  TASK_MANAGEMENT_SIZE,
  TaskManagement,
} from "./protocol.ts";
import { type Bus, decodeLun } from "./target/bus.ts";
import { UNIT_CDROM } from "./target/command.ts";
import type { Nexus } from "./target/nexus.ts";

/** What answers requests of the control queue. */
export interface ControlHost {
  /** The targets. */
  readonly bus: Bus;
  /** The logical units whose events the driver wants to know, and which. */
  readonly subscriptions: Map<Nexus, number>;
  /** Hands a chain back with an answer. */
  answer(chain: DescriptorChain, bytes: Uint8Array): void;
  /** Hands a chain back that cannot be answered. */
  refuse(chain: DescriptorChain): void;
}

/** Serves a request. */
export function serveControl(host: ControlHost, chain: DescriptorChain): void {
  switch (chain.truncated ? -1 : chain.readUint32(0)) {
    case ControlType.TASK_MANAGEMENT:
      return manage(host, chain);
    case ControlType.ASYNC_QUERY:
      return notify(host, chain, false);
    case ControlType.ASYNC_SUBSCRIBE:
      return notify(host, chain, true);
    default:
      return host.refuse(chain);
  }
}

/** A logical unit, or the response that says why there is none. */
function resolve(bus: Bus, lun: Uint8Array): Nexus | number {
  const target = lun[0] === 1 ? bus.target(lun[1]) : null;
  if (target === null) return Response.BAD_TARGET;
  return target.luns.get(decodeLun(lun[2], lun[3])) ?? Response.INCORRECT_LUN;
}

function manage(host: ControlHost, chain: DescriptorChain): void {
  if (
    chain.readableLength < TASK_MANAGEMENT_SIZE || chain.writableLength < 1
  ) return host.refuse(chain);
  const answer = (response: number) =>
    host.answer(chain, Uint8Array.of(response));
  const done = () => answer(Response.FUNCTION_COMPLETE);
  const subtype = chain.readUint32(4);
  const lun = new Uint8Array(8);
  chain.read(8, lun);
  if (subtype === TaskManagement.I_T_NEXUS_RESET) {
    return resetNexus(host, lun, answer);
  }
  const nexus = resolve(host.bus, lun);
  if (typeof nexus === "number") return answer(nexus);
  const { unit } = nexus;
  const low = chain.readUint32(16), high = chain.readUint32(20);
  switch (subtype) {
    case TaskManagement.ABORT_TASK:
      return unit.abortTask(nexus, low, high, done);
    case TaskManagement.ABORT_TASK_SET:
      return unit.abortTaskSet(nexus, done);
    case TaskManagement.CLEAR_ACA:
      // There never is one.
      return done();
    case TaskManagement.CLEAR_TASK_SET:
      return unit.clearTaskSet(nexus, done);
    case TaskManagement.LOGICAL_UNIT_RESET:
      return unit.reset(done);
    case TaskManagement.QUERY_TASK:
      return unit.tasks.has(nexus, low, high)
        ? answer(Response.FUNCTION_SUCCEEDED)
        : done();
    case TaskManagement.QUERY_TASK_SET:
      return unit.tasks.hasAny(nexus)
        ? answer(Response.FUNCTION_SUCCEEDED)
        : done();
    default:
      return answer(Response.FUNCTION_REJECTED);
  }
}

/** The nexus with all logical units of a target is reset. */
function resetNexus(
  { bus }: ControlHost,
  lun: Uint8Array,
  answer: (response: number) => void,
): void {
  const target = lun[0] === 1 ? bus.target(lun[1]) : null;
  if (target === null) return answer(Response.BAD_TARGET);
  const nexuses = [...target.luns.values()];
  let left = nexuses.length;
  for (const nexus of nexuses) {
    nexus.unit.loseNexus(nexus, () => {
      if (--left === 0) answer(Response.FUNCTION_COMPLETE);
    });
  }
}

function notify(
  host: ControlHost,
  chain: DescriptorChain,
  subscribe: boolean,
): void {
  if (
    chain.readableLength < ASYNC_SIZE ||
    chain.writableLength < ASYNC_ANSWER_SIZE
  ) return host.refuse(chain);
  const lun = new Uint8Array(8);
  chain.read(4, lun);
  const nexus = resolve(host.bus, lun);
  const known = typeof nexus === "number"
    ? 0
    : nexus.unit.kind === UNIT_CDROM
    ? ASYNC_MEDIA_CHANGE
    : 0;
  const events = chain.readUint32(12) & known;
  if (subscribe && typeof nexus !== "number") {
    if (events === 0) host.subscriptions.delete(nexus);
    else host.subscriptions.set(nexus, events);
  }
  const response = typeof nexus === "number" ? nexus : Response.OK;
  const answer = new Uint8Array(ASYNC_ANSWER_SIZE);
  new DataView(answer.buffer).setUint32(0, events, true);
  answer[4] = response;
  host.answer(chain, answer);
}
