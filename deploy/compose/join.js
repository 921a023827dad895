// Adds the other two members, once.
const known = rs.conf().members.map((member) => member.host);
for (const host of ["mongo2:27017", "mongo3:27017"]) {
  if (!known.includes(host)) rs.add({ host, priority: 1 });
}
