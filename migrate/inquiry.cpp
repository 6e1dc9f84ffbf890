// SPDX-License-Identifier: Apache-2.0
#include "migrate/inquiry.hpp"

#include "formats/error_message.hpp"
#include "migrate/aftermath.hpp"
#include "transport/alarm.hpp"

#include <utility>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::Status;
using transport::Task;

namespace {

constexpr std::size_t vm_id_limit = 36;

/// Total; `protocol` where a part is outside its limits.
formats::Result<Inquiry> inquiry_from(ChannelName channel, const formats::proto::Rejoin& said) {
    if (said.arbiter().empty() || said.arbiter().size() > arbiter_name_limit ||
        said.vm_id().size() > vm_id_limit) {
        return formats::fail(
            ErrorCode::protocol, "an inquiry does not say about which hand-over it is");
    }
    Inquiry inquiry;
    inquiry.attempt = Attempt{
        .arbiter = said.arbiter(),
        .migration_id = channel.migration_id,
        .pages_missing = said.pages_are_missing()};
    inquiry.channel = std::move(channel);
    inquiry.vm_id = formats::sanitised(said.vm_id(), vm_id_limit);
    inquiry.memory_is_lost = said.memory_is_lost();
    return inquiry;
}

Task<void> answer(OpenedChannel opened, const InquiryDeskOptions& options) {
    auto executor = co_await boost::asio::this_coro::executor;
    auto said = co_await opened.channel->expect(Control::kRejoin);
    if (!said) {
        co_return formats::fail(std::move(said).error());
    }
    auto inquiry = inquiry_from(std::move(opened.name), said->rejoin());
    if (!inquiry) {
        co_return formats::fail(std::move(inquiry).error());
    }
    auto owner = options.find_owner(*inquiry, opened.channel->peer());
    if (!owner) {
        const auto error =
            std::move(owner).error().at(formats::Phase::handover, formats::Side::destination);
        auto told = co_await opened.channel->fail(error, longest_farewell);
        (void)told; // who asks again hears it again
        co_return formats::fail(error);
    }
    AftermathOptions how;
    how.owner = *std::move(owner);
    how.keeper = options.keeper;
    Aftermath aftermath{formats::Side::destination, std::move(how), executor};
    transport::Alarm limit{executor};
    limit.set(options.limit, [&aftermath] { aftermath.stop(); });
    auto taken = co_await aftermath.take(std::move(opened.channel), inquiry->attempt);
    if (!taken) {
        co_return taken;
    }
    co_return co_await aftermath.run([&aftermath] { return !aftermath.is_connected(); });
}

} // namespace

Task<std::unique_ptr<SessionChannel>>
open_inquiry(std::unique_ptr<transport::ByteStream> stream, Inquiry about, Duration silence) {
    auto channel =
        std::make_unique<SessionChannel>(std::move(stream), formats::Side::source, silence);
    about.channel.role = ChannelRole::inquiry;
    auto opened = co_await channel->open_as_source(about.channel);
    if (!opened) {
        channel->close();
        co_return formats::fail(std::move(opened).error());
    }
    Control message;
    auto& rejoin = *message.mutable_rejoin();
    rejoin.set_arbiter(about.attempt.arbiter);
    rejoin.set_pages_are_missing(about.attempt.pages_missing);
    rejoin.set_vm_id(about.vm_id);
    rejoin.set_memory_is_lost(about.memory_is_lost);
    auto said = co_await channel->send(message);
    if (!said) {
        channel->close();
        co_return formats::fail(std::move(said).error());
    }
    co_return channel;
}

Task<void> answer_inquiries(Reception& reception, InquiryDeskOptions options) {
    while (true) {
        auto inquiry = co_await reception.next_inquiry();
        if (!inquiry) {
            const bool is_over = inquiry.error().code() == ErrorCode::wrong_state;
            co_return is_over ? Status{} : Status{formats::fail(std::move(inquiry).error())};
        }
        auto answered = co_await transport::shielded(answer(*std::move(inquiry), options));
        if (!answered && options.on_refusal) {
            options.on_refusal(answered.error());
        }
    }
}

} // namespace wherry::migrate
