/**
 * What a back-end takes of the machine.
 *
 * @module
 */

/** CPU time in seconds and resident memory in bytes of a process, with children. */
export function usage(pid: number): { cpu: number; rss: number } {
  let cpu = 0, rss = 0;
  for (const id of family(pid)) {
    const stat = Deno.readTextFileSync(`/proc/${id}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    cpu += (Number(fields[11]) + Number(fields[12])) / 100;
    rss += Number(fields[21]) * 4096;
  }
  return { cpu, rss };
}

/** A process and its descendants. */
function family(pid: number): number[] {
  const ids = [pid];
  for (const id of ids) {
    for (const task of Deno.readDirSync(`/proc/${id}/task`)) {
      const children = Deno.readTextFileSync(
        `/proc/${id}/task/${task.name}/children`,
      );
      ids.push(...children.split(" ").filter((c) => c !== "").map(Number));
    }
  }
  return ids;
}
