# Turns the file INPUT into a C array of bytes in OUTPUT (run with cmake -P).
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REPLACE "0x0a," "0x0a,\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"merge/encode.h\"\n\nconst unsigned char flamegraph_page[] = {\n${bytes}};\n"
	"const unsigned flamegraph_page_size = ${size};\n")
