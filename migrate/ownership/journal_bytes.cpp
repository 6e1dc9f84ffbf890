// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/journal_bytes.hpp"

#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"
#include "formats/proto/journal.pb.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::load_little;
using formats::Result;
using formats::store_little;

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::string_view file_magic = "WHERRYJL";
constexpr std::string_view record_magic = "WHJR";
constexpr std::string_view end_magic = "WHJE";
constexpr std::uint32_t format_version = 1;
constexpr std::size_t head_size = 32;
constexpr std::size_t checked_head = 24;
/// A disk writes this much or nothing of it.
constexpr std::size_t sector = 512;

bool starts_with(Bytes bytes, std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::ranges::equal(bytes.first(magic.size()), std::as_bytes(std::span{magic}));
}

void put(std::span<std::byte> into, std::size_t at, std::string_view magic) {
    std::ranges::copy(
        std::as_bytes(std::span{magic}), into.begin() + static_cast<std::ptrdiff_t>(at));
}

std::uint64_t digest(Bytes bytes) {
    return static_cast<std::uint64_t>(formats::digest_of(bytes));
}

/// What is too long, or nothing.
std::optional<std::string_view> over_limit(const formats::proto::JournalRecord& body) {
    if (body.arbiter().size() > 1024) {
        return "arbiter";
    }
    if (body.migration_id().size() > 64) {
        return "migration id";
    }
    if (body.vm_name().size() > 64) {
        return "VM's name";
    }
    if (body.peer().size() > 300) {
        return "peer";
    }
    if (body.tls_directory().size() > 4096) {
        return "TLS directory";
    }
    if (body.listens_on().size() > 300) {
        return "address that it listened on";
    }
    return std::nullopt;
}

Result<JournalEntry> entry_from(const formats::proto::JournalRecord& body) {
    const auto kind = static_cast<RecordKind>(body.kind());
    if (body.kind() > 255 || name_of(kind) == "unknown") {
        return fail(ErrorCode::corrupted, fmt::format("there is no record kind {}", body.kind()));
    }
    if (body.side() > 2) {
        return fail(ErrorCode::corrupted, fmt::format("there is no side {}", body.side()));
    }
    if (const auto field = over_limit(body)) {
        return fail(ErrorCode::corrupted, fmt::format("the {} is too long", *field));
    }
    auto id = VmId::parse(body.vm_id());
    if (!id) {
        return fail(ErrorCode::corrupted, id.error().text());
    }
    return JournalEntry{
        .record =
            {.kind = kind,
             .epoch = Epoch{body.epoch()},
             .pages_missing = body.pages_missing(),
             .arbiter = body.arbiter(),
             .migration_id = body.migration_id()},
        .vm_id = *id,
        .vm_name = body.vm_name(),
        .side = formats::side_from(body.side()),
        .peer = body.peer(),
        .tls_directory = body.tls_directory(),
        .listens_on = body.listens_on(),
        .written_at = std::chrono::sys_seconds{std::chrono::seconds{body.written_at()}}};
}

/// Walks over the records of one file.
class Walk {
public:
    explicit Walk(Bytes file) : file_{file} {}

    Result<JournalContents> to_the_end() {
        while (at_ < file_.size()) {
            const auto record = next_record();
            if (!record && is_torn_from(record_end_)) {
                contents_.torn_bytes = file_.size() - at_;
                break;
            }
            if (!record) {
                return damaged(why_);
            }
            auto kept = keep(*record);
            if (!kept) {
                return fail(std::move(kept).error());
            }
        }
        return std::move(contents_);
    }

private:
    struct Record {
        std::uint64_t sequence;
        Bytes body;
        std::size_t end;
    };

    /// nothing: `why_` says why.
    std::optional<Record> next_record() {
        const auto rest = file_.subspan(at_);
        record_end_ = at_ + head_size;
        knows_end_ = false;
        if (rest.size() < head_size) {
            why_ = "a record is cut short";
            return std::nullopt;
        }
        if (!starts_with(rest, record_magic) ||
            load_little<std::uint64_t>(rest, checked_head) != digest(rest.first(checked_head))) {
            why_ = "the head of a record is damaged";
            return std::nullopt;
        }
        const std::size_t length = load_little<std::uint32_t>(rest, 4);
        if (length > journal_body_limit) {
            why_ = "a record is longer than records are";
            return std::nullopt;
        }
        record_end_ = at_ + head_size + length + end_magic.size();
        knows_end_ = true;
        if (record_end_ > file_.size()) {
            why_ = "a record is cut short";
            return std::nullopt;
        }
        const auto body = rest.subspan(head_size, length);
        if (load_little<std::uint64_t>(rest, 16) != digest(body) ||
            !starts_with(rest.subspan(head_size + length), end_magic)) {
            why_ = "the body of a record is damaged";
            return std::nullopt;
        }
        return Record{
            .sequence = load_little<std::uint64_t>(rest, 8), .body = body, .end = record_end_};
    }

    /// Whether what begins at `at_` is what one write leaves that did not come to its end.
    [[nodiscard]] bool is_torn_from(std::size_t record_end) const {
        if (record_end > file_.size()) {
            return true; // what the head says is right, or the head itself is not whole
        }
        if (file_.size() - at_ > journal_record_limit ||
            (knows_end_ && record_end < file_.size())) {
            return false; // more than one record
        }
        const auto is_zero = [](std::byte byte) {
            return byte == std::byte{};
        };
        const auto zeros = std::ranges::find_if_not(file_.rbegin(), file_.rend(), is_zero);
        const auto first_zero = static_cast<std::size_t>(file_.rend() - zeros);
        const auto boundary = first_zero == at_ ? at_ : (first_zero + sector - 1) / sector * sector;
        return boundary < record_end;
    }

    formats::Status keep(const Record& record) {
        const bool is_first = contents_.entries.empty();
        if (!is_first && record.sequence != contents_.next_sequence) {
            return damaged(fmt::format(
                "record {} where {} was due", record.sequence, contents_.next_sequence));
        }
        formats::proto::JournalRecord body;
        if (!body.ParseFromArray(record.body.data(), static_cast<int>(record.body.size()))) {
            return damaged("the body of a record is no message");
        }
        auto entry = entry_from(body);
        if (!entry) {
            return damaged(entry.error().text());
        }
        contents_.entries.push_back(std::move(*entry));
        contents_.next_sequence = record.sequence + 1;
        at_ = record.end;
        return {};
    }

    [[nodiscard]] std::unexpected<formats::Error> damaged(std::string_view why) const {
        return fail(ErrorCode::corrupted, fmt::format("at byte {}: {}", at_, why));
    }

    Bytes file_;
    std::size_t at_ = journal_header_size;
    std::size_t record_end_ = 0; ///< of the one that is looked at, as far as that can be known
    bool knows_end_ = false;
    std::string_view why_;
    JournalContents contents_;
};

} // namespace

std::vector<std::byte> journal_header() {
    std::vector<std::byte> bytes(journal_header_size);
    put(bytes, 0, file_magic);
    store_little(std::span{bytes}, 8, format_version);
    return bytes;
}

Result<std::vector<std::byte>>
encode_journal_record(const JournalEntry& entry, std::uint64_t sequence) {
    formats::proto::JournalRecord body;
    body.set_kind(static_cast<std::uint32_t>(entry.record.kind));
    body.set_epoch(static_cast<std::uint64_t>(entry.record.epoch));
    body.set_pages_missing(entry.record.pages_missing);
    body.set_arbiter(entry.record.arbiter);
    body.set_migration_id(entry.record.migration_id);
    body.set_vm_id(entry.vm_id.to_string());
    body.set_vm_name(entry.vm_name);
    body.set_side(static_cast<std::uint32_t>(entry.side));
    body.set_peer(entry.peer);
    body.set_tls_directory(entry.tls_directory);
    body.set_listens_on(entry.listens_on);
    body.set_written_at(entry.written_at.time_since_epoch().count());
    if (const auto field = over_limit(body)) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("the {} is too long for the VM's journal", *field));
    }
    const auto length = body.ByteSizeLong();
    std::vector<std::byte> bytes(head_size + length + end_magic.size());
    const std::span all{bytes};
    const bool is_written =
        body.SerializeToArray(all.subspan(head_size).data(), static_cast<int>(length));
    formats::invariant(is_written, "a journal record can be serialised");
    put(all, 0, record_magic);
    store_little(all, 4, static_cast<std::uint32_t>(length));
    store_little(all, 8, sequence);
    store_little(all, 16, digest(all.subspan(head_size, length)));
    store_little(all, checked_head, digest(all.first(checked_head)));
    put(all, head_size + length, end_magic);
    return bytes;
}

Result<JournalContents> decode_journal(Bytes file) {
    if (file.size() < journal_header_size || !starts_with(file, file_magic)) {
        return fail(ErrorCode::corrupted, "at byte 0: this is not the beginning of a journal");
    }
    const auto version = load_little<std::uint32_t>(file, file_magic.size());
    if (version != format_version) {
        return fail(
            ErrorCode::version_mismatch,
            fmt::format(
                "at byte 8: version {} of the format; this wherry knows {}: use a newer one",
                version,
                format_version));
    }
    if (load_little<std::uint32_t>(file, 12) != 0) {
        return fail(ErrorCode::corrupted, "at byte 12: not zero");
    }
    return Walk{file}.to_the_end();
}

} // namespace wherry::migrate
