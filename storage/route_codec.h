// Routes as they are stored in route.data (schema.sql says how). Internal to storage/.
#pragma once

#include <string>
#include <string_view>

#include "engine/observer.h"

namespace expertscope {

void encode_route(const RouteRecord&, std::string& bytes);  // replaces bytes
// Fills expert, weight and gate of a record whose picks, gates and gate_entries are set. False when the size is wrong.
bool decode_route(std::string_view bytes, RouteRecord&);

}  // namespace expertscope
