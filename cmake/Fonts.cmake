# The fonts that the window uses, from the system's font packages or from -DES_SANS_FONT_FILE=… and so on.
# A build without them falls back on ImGui's own font.
set(es_font_folders /usr/share/fonts /usr/local/share/fonts $ENV{HOME}/.local/share/fonts)
find_file(ES_SANS_FONT_FILE NAMES Inter-Regular.otf Inter-Regular.ttf Roboto-Regular.ttf DejaVuSans.ttf PATHS ${es_font_folders}
  PATH_SUFFIXES opentype/inter truetype/inter inter truetype/roboto/unhinted/RobotoTTF roboto truetype/dejavu dejavu TTF NO_DEFAULT_PATH)
find_file(ES_STRONG_FONT_FILE NAMES Inter-SemiBold.otf Inter-SemiBold.ttf Roboto-Medium.ttf DejaVuSans-Bold.ttf PATHS ${es_font_folders}
  PATH_SUFFIXES opentype/inter truetype/inter inter truetype/roboto/unhinted/RobotoTTF roboto truetype/dejavu dejavu TTF NO_DEFAULT_PATH)
find_file(ES_MONO_FONT_FILE NAMES JetBrainsMono-Regular.ttf DejaVuSansMono.ttf PATHS ${es_font_folders}
  PATH_SUFFIXES truetype/jetbrains-mono jetbrains-mono truetype/dejavu dejavu TTF NO_DEFAULT_PATH)

add_library(es_fonts STATIC assets/fonts/embedded_fonts.cpp)
target_link_libraries(es_fonts PUBLIC es_options)
foreach(kind IN ITEMS SANS STRONG MONO)
  if(ES_${kind}_FONT_FILE)
    target_compile_definitions(es_fonts PRIVATE ES_${kind}_FONT="${ES_${kind}_FONT_FILE}")
  else()
    message(STATUS "No ${kind} font found: the window uses ImGui's own")
  endif()
endforeach()
