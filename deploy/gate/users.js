// The gate's own user in MongoDB: the rights that tidemark reads with, by the same role, and no other.
//   mongosh "mongodb://admin@db/admin?replicaSet=rs0" --eval 'const database = "revalidation"' \
//     --file deploy/gate/users.js
// The daemon's user holds the role `tidemark_read`, too: what the gate proves of it, it proves of both.
const admin = db.getSiblingDB("admin");
const privileges = [
  {
    resource: { db: database, collection: "" },
    actions: ["find", "changeStream", "listCollections", "collStats"],
  },
  { resource: { db: "local", collection: "oplog.rs" }, actions: ["find"] },
  { resource: { db: "local", collection: "system.replset" }, actions: ["find"] },
];
if (admin.getRole("tidemark_read") === null) {
  admin.createRole({ role: "tidemark_read", privileges, roles: [] });
} else {
  admin.updateRole("tidemark_read", { privileges, roles: [] });
}
if (admin.getUser("tidemark_gate") === null) {
  admin.createUser({ user: "tidemark_gate", pwd: passwordPrompt(), roles: ["tidemark_read"] });
}
if (admin.getUser("tidemark") !== null) {
  admin.grantRolesToUser("tidemark", ["tidemark_read"]);
}
