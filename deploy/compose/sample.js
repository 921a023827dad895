// Sample data shaped like the revalidation database: loaded once, then changed for ever, some changes a second.
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const day = (offset) => new Date(new Date().setUTCHours(0, 0, 0, 0) + offset * 86400000);
const gmc = (n) => String(1000000 + n);
const STATUS = ["NOT_STARTED", "STARTED", "READY_TO_REVIEW", "READY_TO_SUBMIT", "SUBMITTED_TO_GMC", "COMPLETED", "DRAFT"];
const DOCTORS = 4000;

const doctor = (n) => ({
  _id: gmc(n),
  doctorFirstName: pick(["Aisha", "Ben", "Chloe", "Dev", "Efua", "Finn"]),
  doctorLastName: pick(["Khan", "Okoro", "Smith", "Patel", "Evans", "Novak"]),
  submissionDate: day(Math.floor(Math.random() * 700)),
  dateAdded: day(-Math.floor(Math.random() * 2000)),
  underNotice: pick(["YES", "NO", "ON_HOLD", null]),
  sanction: pick(["Yes", "No"]),
  doctorStatus: pick(STATUS),
  lastUpdatedDate: day(0),
  gmcLastUpdatedDateTime: new Date(),
  designatedBodyCode: pick(["1-AIIDWI", "1-AIIDR8", "1-AIIDSA", null]),
  admin: "admin@example.org",
  existsInGmc: true,
  _class: "uk.nhs.hee.tis.revalidation.entity.DoctorsForDB",
});
const recommendation = () => ({
  gmcNumber: gmc(Math.floor(Math.random() * DOCTORS)),
  recommendationType: pick(["REVALIDATE", "DEFER", "NON_ENGAGEMENT"]),
  recommendationStatus: pick(STATUS),
  gmcSubmissionDate: day(Math.floor(Math.random() * 300)),
  comments: ["sample"],
  admin: "admin@example.org",
  _class: "uk.nhs.hee.tis.revalidation.entity.Recommendation",
});

if (db.doctorsForDB.countDocuments() === 0) {
  db.doctorsForDB.insertMany([...Array(DOCTORS).keys()].map(doctor));
  db.recommendation.insertMany([...Array(3000).keys()].map(recommendation));
  print(`loaded ${DOCTORS} doctors and 3000 recommendations`);
}
const rounds = Number(process.env.SAMPLE_ROUNDS ?? Infinity);
for (let round = 0; round < rounds; round += 1) {
  const n = Math.floor(Math.random() * DOCTORS);
  db.doctorsForDB.replaceOne({ _id: gmc(n) }, doctor(n), { upsert: true });
  if (round % 3 === 0) db.recommendation.insertOne(recommendation());
  if (round % 5 === 0) db.recommendation.updateOne({}, { $set: { outcome: pick(["APPROVED", "REJECTED", "UNDER_REVIEW"]) } });
  if (round % 50 === 0) db.recommendation.deleteOne({ outcome: "REJECTED" });
  sleep(200);
}
