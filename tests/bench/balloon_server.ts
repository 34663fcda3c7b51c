/**
 * A served balloon, as a process of its own for measuring: each line of its
 * input is a command as JSON (`{"name": …, "parameters": {…}}`), each line of
 * its output the answer.
 *
 *     balloon_server.ts SOCKET [OPTIONS]
 *
 * @module
 */

import { serve } from "../../host/serve.ts";

const [socket, options = "{}"] = Deno.args;
const server = await serve({
  device: new URL("../../backends/balloon/mod.ts", import.meta.url),
  options: JSON.parse(options),
  socket,
  logLevel: "error",
});
const decoder = new TextDecoder();
let rest = "";
for await (const chunk of Deno.stdin.readable) {
  const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const { name, parameters } = JSON.parse(line);
    console.log(JSON.stringify(await server.command(name, parameters)));
  }
}
await server.stop();
