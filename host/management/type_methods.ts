/**
 * The management methods about devices of one type: links of network devices,
 * memory balloons, logical units of SCSI hosts.
 *
 * @module
 */

import { z } from "zod";
import { LUN_OPTIONS } from "../../backends/scsi/options.ts";
import { amendLuns } from "../device_types/scsi.ts";
import type { Methods } from "./methods.ts";
import { optionSchemas } from "./option_schemas.ts";
import { type ManagedDevice, selectOne } from "./selection.ts";

const Count = z.int().check(z.nonnegative());
const Name = z.optional(z.string()).meta({
  description: "name of the device, if there are several of its type",
});

/** The result of `link`. */
export const Link = z.object({
  name: z.string(),
  up: z.boolean().meta({ description: "whether the guest sees a link" }),
});

/** What `balloon.set` and `balloon.status` tell. */
export const Balloon = z.looseObject({
  name: z.string(),
  memory: Count.meta({ description: "bytes of the guest" }),
  guestTarget: Count.meta({ description: "bytes that it is to have" }),
  target: Count.meta({ description: "bytes that the balloon is to have" }),
  actual: Count.meta({ description: "bytes that it has" }),
  reclaimed: Count.meta({ description: "bytes that the host got back" }),
  progress: z.number().meta({ description: "from 0 to 1" }),
});

/** The result of `balloon.stats`. */
export const BalloonStats = z.object({
  name: z.string(),
  stats: z.record(z.string(), z.number()).meta({
    description: "as the guest's driver tells them",
  }),
  statsAge: z.nullable(z.number()).meta({ description: "seconds" }),
});

const Place = {
  target: z._default(z.int().min(0).max(255), 0).meta({
    description: "target number",
  }),
  lun: z._default(z.int().min(0).max(16383), 0).meta({
    description: "logical unit number",
  }),
};

/** What the methods about logical units return. */
export const Lun = z.looseObject({
  name: z.string(),
  target: z.int(),
  lun: z.int(),
});

/** What a change of a medium returns: where the logical unit is to be found. */
const Places = z.looseObject({
  places: z._default(
    z.array(z.object({
      initiator: z.string(),
      target: z.int(),
      lun: z.int(),
    })),
    [],
  ),
});

/** Registers the methods for these devices. */
export function registerTypeMethods(
  methods: Methods,
  devices: readonly ManagedDevice[],
): void {
  registerLink(methods, devices);
  registerBalloon(methods, devices);
  registerLuns(methods, devices);
}

function registerLink(
  methods: Methods,
  devices: readonly ManagedDevice[],
): void {
  methods.register("link", {
    summary: "Plugs the cable of a network device in, or pulls it",
    params: z.strictObject({ name: Name, up: z.boolean() }),
    result: Link,
    handler: async ({ name, up }) => {
      const device = selectOne(devices, "net", name);
      const result = await device.command("link", { up }) as object;
      const link = up ? "up" : "down";
      device.amend((options) => ({ ...options, link }));
      return Link.parse({ ...result, name: device.name });
    },
  });
}

function registerBalloon(
  methods: Methods,
  devices: readonly ManagedDevice[],
): void {
  const ask = async <Schema extends z.ZodType>(
    name: string | undefined,
    command: string,
    schema: Schema,
    params: Readonly<Record<string, unknown>> = {},
  ): Promise<z.infer<Schema>> => {
    const device = selectOne(devices, "balloon", name);
    const result = await device.command(command, params) as object;
    return schema.parse({ ...result, name: device.name });
  };
  methods.register("balloon.set", {
    summary: "Says how much memory a guest is to have",
    params: z.strictObject({
      name: Name,
      size: z.string().meta({
        description:
          "bytes (1G), a share of its memory (50%), or a change (+512M, -25%)",
      }),
    }),
    result: Balloon,
    handler: ({ name, size }) => ask(name, "balloon-set", Balloon, { size }),
  });
  methods.register("balloon.status", {
    summary: "Tells how far a memory balloon is",
    params: z.strictObject({ name: Name }),
    result: Balloon,
    handler: ({ name }) => ask(name, "status", Balloon),
  });
  methods.register("balloon.stats", {
    summary: "Asks a guest for the statistics of its memory",
    params: z.strictObject({ name: Name }),
    result: BalloonStats,
    handler: ({ name }) => ask(name, "stats", BalloonStats),
  });
}

function registerLuns(
  methods: Methods,
  devices: readonly ManagedDevice[],
): void {
  const change = async (
    name: string | undefined,
    command: string,
    params: { target: number; lun: number },
  ): Promise<z.infer<typeof Lun>> => {
    const device = selectOne(devices, "scsi", name);
    const { places, ...result } = Places.parse(
      await device.command(command, params),
    );
    // A process that is started again has the units of now.
    device.amend((options) => amendLuns(options, command, params));
    if (places.length > 1) await amendOthers(device, command, params, places);
    const { target, lun } = params;
    return Lun.parse({ target, lun, ...result, name: device.name });
  };
  /** Other hosts of the process that serve the same logical unit. */
  const amendOthers = async (
    device: ManagedDevice,
    command: string,
    params: object,
    places: z.infer<typeof Places>["places"],
  ): Promise<void> => {
    const others = devices.filter((other) =>
      other !== device && other.type === device.type &&
      other.process !== null && other.process === device.process
    );
    for (const other of others) {
      const { device: facts } = await other.status();
      const { initiator } = facts as { initiator?: string };
      for (const { initiator: name, ...place } of places) {
        if (name !== initiator) continue;
        other.amend((options) =>
          amendLuns(options, command, { ...params, ...place })
        );
      }
    }
  };
  methods.register("lun.add", {
    summary: "Adds a logical unit to a SCSI host",
    params: z.strictObject({
      name: Name,
      ...optionSchemas(LUN_OPTIONS),
      ...Place,
    }),
    result: Lun,
    handler: ({ name, ...unit }) => change(name, "lun-add", unit),
  });
  methods.register("lun.remove", {
    summary: "Takes a logical unit from a SCSI host",
    params: z.strictObject({ name: Name, ...Place }),
    result: Lun,
    handler: ({ name, ...place }) => change(name, "lun-remove", place),
  });
  methods.register("lun.resize", {
    summary: "Looks at the size of a logical unit again and tells the guest",
    params: z.strictObject({ name: Name, ...Place }),
    result: Lun,
    handler: ({ name, ...place }) => change(name, "lun-resize", place),
  });
  methods.register("lun.change-medium", {
    summary: "Puts another medium into a removable logical unit, or none",
    params: z.strictObject({
      name: Name,
      ...Place,
      path: z._default(z.string(), "").meta({
        description: "of the new medium; none takes it out",
      }),
    }),
    result: Lun,
    handler: ({ name, ...place }) => change(name, "change-medium", place),
  });
}
