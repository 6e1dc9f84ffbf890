// SPDX-License-Identifier: Apache-2.0
// Damages the guest's own memory once, the way a faulty migration would, so that tests can prove
// that the checks fire.
#include "tests/guests/serial.hpp"
#include "tests/guests/text.hpp"
#include "tests/guests/worker.hpp"

namespace wherry::guest {

namespace {

std::string_view name_of(Fault fault) noexcept {
    switch (fault) {
    case Fault::none:
        return "none";
    case Fault::stale:
        return "stale";
    case Fault::torn:
        return "torn";
    case Fault::lost:
        return "lost";
    case Fault::table:
        return "table";
    case Fault::ledger:
        return "ledger";
    case Fault::everything:
        return "everything";
    }
    return "unknown";
}

} // namespace

void Worker::inject_fault() noexcept {
    const auto& options = setup_->options;
    const auto due = options.fault_after_ms * setup_->tsc_khz;
    if (options.fault == Fault::none || fault_done_ || number_ != 0 || elapsed() < due) {
        return;
    }
    fault_done_ = true;
    if (hot_count_ == 0) {
        serial::queue(Line("warning fault not injected: no hot pages").finish());
        return;
    }
    const auto index = hot_[hot_count_ / 2];
    dirty_page(index); // so that there is an update to lose
    const auto current = content_of(index);
    auto before = current;
    before.version = current.version - 1;
    auto* page = page_at(current.gfn);
    switch (options.fault) {
    case Fault::none:
        break;
    case Fault::torn:
        write_page_part(page, before, page_words / 2);
        break;
    case Fault::lost:
        write_page(page, {current.gfn, 0, PageClass::zero});
        break;
    case Fault::stale:
        write_page(page, before);
        break;
    case Fault::table: // page and table equally old: the ledger must tell
        write_page(page, before);
        ledger_.forget_last(index, VersionLedger::Depth::table);
        break;
    case Fault::ledger: // and the ledger too: the total must tell
        write_page(page, before);
        ledger_.forget_last(index, VersionLedger::Depth::ledger);
        break;
    case Fault::everything: // all memory equally old: the register must tell
        write_page(page, before);
        ledger_.forget_last(index, VersionLedger::Depth::total);
        break;
    }
    Line line("fault");
    line.field("injected", name_of(options.fault)).field("page", current.gfn);
    line.field("version", current.version);
    serial::queue(line.finish());
}

} // namespace wherry::guest
