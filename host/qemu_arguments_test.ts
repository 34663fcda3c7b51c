import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { resolve } from "@std/path";
import { BALLOON, BLK } from "./device_types.ts";
import { planDevices } from "./options/device_specs.ts";
import { splitOptions } from "./options/grammar.ts";
import {
  deviceArguments,
  formatCommand,
  qemuCommand,
} from "./qemu_arguments.ts";

function plan(...lists: string[]) {
  return planDevices(
    lists.map((list) => ({
      subject: "--blk",
      type: BLK,
      pairs: splitOptions(list),
    })),
  );
}

Deno.test("qemuCommand() is a command for all devices", () => {
  const devices = plan(
    "path=a,socket=/run/a.sock,queues=2",
    "path=b,socket=b.sock,id=data",
  );
  assertEquals(
    qemuCommand(devices),
    `qemu-system-x86_64 \\
  -accel kvm \\
  -accel tcg \\
  -m 1G \\
  -object memory-backend-memfd,id=mem,size=1G,share=on \\
  -machine q35,memory-backend=mem \\
  -chardev socket,id=blk,path=/run/a.sock,reconnect-ms=500 \\
  -device vhost-user-blk-pci,chardev=blk,num-queues=2 \\
  -chardev socket,id=data,path=${resolve("b.sock")},reconnect-ms=500 \\
  -device vhost-user-blk-pci,chardev=data,num-queues=1`,
  );
});

Deno.test("deviceArguments() doubles commas and knows descriptors", () => {
  const [comma] = plan("path=a,socket=/run/a,,b.sock");
  assertEquals(
    deviceArguments(comma)[1],
    "socket,id=blk,path=/run/a,,b.sock,reconnect-ms=500",
  );
  const [descriptor] = plan("path=a,fd=5");
  assertEquals(
    deviceArguments(descriptor)[1],
    "socket,id=blk,path=PATH,reconnect-ms=500",
  );
});

Deno.test("deviceArguments() keeps a path relative that would be too long", () => {
  const path = "s".repeat(107);
  const [device] = plan(`path=a,socket=${path}`);
  assertEquals(
    deviceArguments(device)[1],
    `socket,id=blk,path=${path},reconnect-ms=500`,
  );
});

Deno.test("formatCommand() quotes for the shell", async () => {
  const words = ["printf", "%s\\n", "a b", "it's", "$HOME", "a,,b=c", "", "*"];
  const script = formatCommand(words);
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] })
    .output();
  assertEquals(
    new TextDecoder().decode(stdout),
    words.slice(2).map((word) => word + "\n").join(""),
  );
  assertStringIncludes(script, "a,,b=c");
});

Deno.test("deviceArguments() does not connect to a balloon again", () => {
  const [balloon] = planDevices([
    { subject: "--balloon", type: BALLOON, pairs: [] },
  ]);
  assertMatch(deviceArguments(balloon)[1], /balloon\.sock$/);
});
