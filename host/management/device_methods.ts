/**
 * The management methods about devices of every type.
 *
 * @module
 */

import { z } from "zod";
import { HostError, messageOf } from "../error.ts";
import { featureNames } from "../features.ts";
import type { Methods } from "./methods.ts";
import { ALL, type ManagedDevice, select } from "./selection.ts";

export type { ManagedDevice } from "./selection.ts";

const Count = z.int().check(z.nonnegative());

const Session = z.looseObject({
  features: z.string().meta({
    description: "virtio features acknowledged, hexadecimal",
  }),
  featureNames: z.array(z.string()).meta({
    description: "their names in the specification, without prefix",
  }),
  protocolFeatures: z.array(z.string()).meta({
    description: "vhost-user protocol features acknowledged",
  }),
});

const Device = z.looseObject({
  name: z.string(),
  type: z.string(),
  socket: z.nullable(z.string()).meta({
    description: "path of the socket; null: an inherited descriptor",
  }),
  process: z.nullable(z.string()).meta({
    description: "name of the process that it shares with others",
  }),
  state: z.enum(["running", "restarting", "failed"]).meta({
    description:
      "restarting: its process died and is started again; failed: that does not succeed",
  }),
  problem: z.nullable(z.string()).meta({
    description: "why it is not served, or does not answer",
  }),
  pid: z.nullable(z.int()).meta({ description: "of the process" }),
  rss: z.nullable(Count).meta({
    description: "resident memory of the process, bytes",
  }),
  restarts: Count.meta({ description: "of the process, after it died" }),
  lastExit: z.nullable(z.string()).meta({
    description: "why the process died last",
  }),
  connected: z.boolean(),
  connections: Count.meta({ description: "front-ends served so far" }),
  refusedConnections: Count.meta({
    description: "front-ends refused because another one was served",
  }),
  droppedConnections: z.optional(Count).meta({
    description: "front-ends that were dropped because they broke the protocol",
  }),
  lastDrop: z.optional(z.nullable(z.string())).meta({
    description: "why the last one of them was",
  }),
  session: z.nullable(Session).meta({
    description: "the front-end that is connected",
  }),
  rings: z.array(z.looseObject({ index: Count, size: Count })).meta({
    description: "rings that run, with their counters",
  }),
  missedWakeUps: z.optional(Count).meta({
    description:
      "times that a slow look found requests of which no notification had told",
  }),
  device: z.record(z.string(), z.unknown()).meta({
    description: "what the device says of itself",
  }),
});

/** The result of `status`. */
export const Status = z.object({
  version: z.string(),
  pid: z.int(),
  uptime: z.number().meta({ description: "seconds since the start" }),
  devices: z.array(Device),
});

const Resized = z.object({
  name: z.string(),
  capacity: Count.meta({ description: "bytes" }),
  previousCapacity: Count.meta({ description: "bytes" }),
});

/** The result of `resize`. */
export const Resize = z.object({ devices: z.array(Resized) });

const Resumed = z.object({ name: z.string() });

/** The result of `resume`. */
export const Resume = z.object({ devices: z.array(Resumed) });

const Selection = z.string().meta({
  description: `name of a device, or "${ALL}"`,
});

/** Registers the methods for these devices. */
export function registerDeviceMethods(
  methods: Methods,
  devices: readonly ManagedDevice[],
  version: string,
): void {
  methods.register("status", {
    summary: "Tells of the devices, their connections, rings and counters",
    params: z.strictObject({ name: z.optional(Selection) }),
    result: Status,
    handler: async ({ name = ALL }) => ({
      version,
      pid: Deno.pid,
      uptime: Math.round(performance.now() / 1000),
      devices: await Promise.all(select(devices, name).map(statusOf)),
    }),
  });
  methods.register("resize", {
    summary: "Looks at the size of images again and tells the guests",
    params: z.strictObject({ name: Selection }),
    result: Resize,
    handler: async ({ name }) => ({
      devices: await resizeDevices(select(devices, name, "resize")),
    }),
  });
  methods.register("resume", {
    summary: "Has disks go on that stopped on an error (on-error=stop)",
    params: z.strictObject({ name: Selection }),
    result: Resume,
    handler: async ({ name }) => ({
      devices: await commandAll(
        "resume",
        Resumed,
        select(devices, name, "resume"),
      ),
    }),
  });
}

/**
 * Makes devices look at the size of their images again, one after the other.
 *
 * @throws {HostError} of kind `device` when some refuse; the others are done
 */
export function resizeDevices(
  devices: readonly ManagedDevice[],
): Promise<z.infer<typeof Resized>[]> {
  return commandAll("resize", Resized, devices);
}

/** Asks devices for the same, one after the other; as {@linkcode resizeDevices}. */
async function commandAll<Schema extends z.ZodType>(
  command: string,
  schema: Schema,
  devices: readonly ManagedDevice[],
): Promise<z.infer<Schema>[]> {
  const results: z.infer<Schema>[] = [];
  const problems: string[] = [];
  for (const device of devices) {
    const { name } = device;
    try {
      const result = await device.command(command, {}) as object;
      results.push(schema.parse({ ...result, name }));
    } catch (error) {
      problems.push(`Cannot ${command} "${name}": ${messageOf(error)}`);
    }
  }
  if (problems.length === 0) return results;
  throw new HostError("device", problems.join("; "));
}

async function statusOf(
  device: ManagedDevice,
): Promise<z.infer<typeof Device>> {
  const status = await device.status();
  const session = status.session as { features: string } | null;
  if (session !== null) {
    status.session = {
      ...session,
      featureNames: featureNames(
        String(status.type),
        BigInt(session.features),
      ),
    };
  }
  return Device.parse(status);
}
