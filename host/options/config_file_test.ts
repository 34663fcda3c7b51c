import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { HostError } from "../error.ts";
import { parseConfig, readConfig } from "./config_file.ts";
import { planDevices } from "./device_specs.ts";
import { settingsOf } from "./settings.ts";

function refusal(json: unknown): string {
  const text = typeof json === "string" ? json : JSON.stringify(json);
  const error = assertThrows(
    () => planDevices(parseConfig("c.json", text).devices),
    HostError,
  );
  assertEquals(error.kind, "usage");
  return error.message;
}

Deno.test("parseConfig() gives devices and settings", () => {
  const { devices, settings } = parseConfig(
    "c.json",
    JSON.stringify({
      devices: [
        { type: "blk", path: "a.img", queues: 2, readonly: true },
        { type: "blk", path: "b,c.img", "block-size": 4096, id: "data" },
      ],
      management: "off",
      "log-level": "debug",
      "log-format": "json",
    }),
  );
  assertEquals(
    planDevices(devices).map(({ spec: { name, options } }) => [
      name,
      options.path,
      options.queues,
      options.readonly,
      options.blockSize,
    ]),
    [["blk", "a.img", 2, true, undefined], [
      "data",
      "b,c.img",
      1,
      false,
      "4096",
    ]],
  );
  assertEquals(settingsOf(settings), {
    management: null,
    supervise: true,
    logLevel: "debug",
    logFormat: "json",
  });
});

Deno.test("settingsOf() lets the later ones win and adds defaults", () => {
  assertEquals(settingsOf(), {
    management: "./vhostd-data/vhostd.sock",
    supervise: true,
    logLevel: "info",
    logFormat: "text",
  });
  assertEquals(
    settingsOf(
      { management: "off", logLevel: "warn", supervise: "off" },
      { management: "m" },
    ),
    { management: "m", supervise: false, logLevel: "warn", logFormat: "text" },
  );
});

Deno.test("parseConfig() takes an empty object", () => {
  assertEquals(parseConfig("c.json", "{}"), { devices: [], settings: {} });
});

Deno.test("parseConfig() names the file and the place of what is wrong", () => {
  const device = { type: "blk", path: "a" };
  const cases: [unknown, string][] = [
    [[], "c.json is no JSON object"],
    ["null", "c.json is no JSON object"],
    ["1", "c.json is no JSON object"],
    [{ devices: {} }, 'c.json: "devices" is no array'],
    [{ devices: null }, 'c.json: "devices" is no array'],
    [{ devices: [1] }, "c.json: devices[0] is no JSON object"],
    [
      { devices: [device, {}] },
      'c.json: devices[1]: "type" is missing: one of blk, net, scsi, balloon',
    ],
    [
      { devices: [{ ...device, type: "blik" }] },
      'c.json: devices[0]: "blik" is no type of device (did you mean "blk"?)',
    ],
    [
      { devices: [{ ...device, type: 5 }] },
      "c.json: devices[0]: 5 is no type of device: blk, net, scsi, balloon",
    ],
    [
      { devices: [{ type: "blk" }] },
      'c.json: devices[0]: "path" is missing: add path=PATH',
    ],
    [
      { devices: [{ ...device, readonly: null }] },
      'c.json: devices[0]: "readonly" is no string, number or boolean',
    ],
    [
      { devices: [{ ...device, queues: [1] }] },
      'c.json: devices[0]: "queues" is no string, number or boolean',
    ],
    [
      { devices: [{ ...device, queues: 0 }] },
      'c.json: devices[0]: "queues=0" is no integer from 1 to 256',
    ],
    [
      { devices: [{ ...device, read_only: true }] },
      'c.json: devices[0]: "read_only" is no option (did you mean "readonly"?)',
    ],
    [
      {
        devices: [{
          type: "scsi",
          luns: [{ path: "a" }, { target: 1 }],
        }],
      },
      'c.json: devices[0]: luns[1]: "path" is missing: add path=PATH',
    ],
    [
      { "log-level": "loud" },
      'c.json: "log-level=loud" is none of debug, info, warn, error',
    ],
    [
      { loglevel: "info" },
      'c.json: "loglevel" is no option (did you mean "log-level"?)',
    ],
    [{ management: "" }, 'c.json: "management=" names no file'],
  ];
  for (const [json, expected] of cases) assertEquals(refusal(json), expected);
  assertStringIncludes(refusal("{"), "c.json: no JSON: ");
});

Deno.test("readConfig() reads a file, and says why it cannot", () => {
  const path = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    Deno.writeTextFileSync(path, '{"log-level":"warn"}');
    assertEquals(readConfig(path).settings, { logLevel: "warn" });
  } finally {
    Deno.removeSync(path);
  }
  const error = assertThrows(() => readConfig(path), HostError);
  assertEquals(error.kind, "usage");
  assertEquals(
    error.message,
    `Cannot read the config file: open "${path}": No such file or directory (ENOENT)`,
  );
});
